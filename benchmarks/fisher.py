"""Speed of `fisher_diagonal` against a loop of single-sample backward passes.

Run with ``python benchmarks/fisher.py``. For a small CNN and a small ViT both compute the same
Fisher diagonal on the same images (asserted in float64 with rtol 1e-4: in float32 an activation
within rounding of a ReLU's kink may fall on either side, in the loop as well). They are timed in
float32 and take turns; the median of the paired ratios counts. The goal is 5 times faster; exits
with 1 if missed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import clbench.models  # noqa: F401  (registers the tiny backbones)
from clbench.methods.ewc import fisher_diagonal

GOAL = 5.0


def loop(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The plain way: one backward pass for each sample, squared and added up."""
    model.eval()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for image, label in zip(images, labels, strict=True):
        model.zero_grad()
        F.cross_entropy(model(image[None]), label[None]).backward()
        for name, parameter in model.named_parameters():
            total[name] += parameter.grad.detach() ** 2
    return {name: value / len(images) for name, value in total.items()}


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    arguments = parser.parse_args()
    missed = False
    for name in ("tiny_cnn", "tiny_vit"):
        torch.manual_seed(0)
        options = {"img_size": arguments.size} if name == "tiny_vit" else {}
        model = timm.create_model(name, num_classes=10, **options)
        images = torch.randn(arguments.samples, 3, arguments.size, arguments.size)
        labels = torch.randint(0, 10, (arguments.samples,))
        _assert_equal(copy.deepcopy(model).double(), images.double(), labels)
        slow_times, fast_times = [], []
        for _ in range(arguments.rounds):
            slow_times.append(_timed(partial(loop, model, images, labels)))
            fast_times.append(_timed(partial(fisher_diagonal, model, [(images, labels)])))
        ratio = statistics.median(s / f for s, f in zip(slow_times, fast_times, strict=True))
        slow, quick = (1e3 * statistics.median(t) / len(images) for t in (slow_times, fast_times))
        print(
            f"{name:9} loop {slow:6.3f} ms a sample, fisher_diagonal {quick:6.3f} ms a sample: "
            f"{ratio:.1f}x"
        )
        missed |= ratio < GOAL
    print(f"goal: at least {GOAL}x at equal values: {'missed' if missed else 'reached'}")
    return int(missed)


def _assert_equal(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    fast = fisher_diagonal(model, [(images, labels)])
    for name, expected in loop(model, images, labels).items():
        torch.testing.assert_close(
            fast[name], expected, rtol=1e-4, atol=1e-12 * float(expected.max())
        )


def _timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
