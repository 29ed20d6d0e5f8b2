"""Time of a training step of ResNet-18 with ℓ2, EWC and SFA against plain fine-tuning.

Run with ``python benchmarks/method_step.py``. Steps of all methods take turns in one process;
medians are compared. The goal is at most 1.05 times a plain step; exits with 1 if missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.methods.base import Context, Method
from clbench.methods.ewc import EWC
from clbench.methods.penalty import L2
from clbench.methods.sfa import SFA
from clbench.models.anchors import Anchor, Anchors
from clbench.models.loss import ClassLoss
from clbench.streams import Task
from clbench.weights import snapshot

GOAL = 1.05
CLASSES = 20


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="steps of each method")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images of a batch")
    arguments = parser.parse_args()
    images = torch.randint(0, 256, (arguments.batch, 3, arguments.size, arguments.size))
    labels = torch.randint(0, CLASSES // 2, (arguments.batch,))
    methods: dict[str, Method | None] = {
        "plain": None,
        "plain again": None,
        "l2": L2(strength=0.1, anchor="previous"),
        "ewc": EWC(strength=1.0),
        # p: 0.98 averages twice in a task of 100 steps; here the steps between are timed too.
        "sfa": SFA(p=0.5),
    }
    steps = {
        name: _step(method, images.to(torch.uint8), labels, arguments.rounds)
        for name, method in methods.items()
    }
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(arguments.rounds):
        names = list(steps)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:  # nobody always runs after the same one
            began = time.perf_counter()
            steps[name]()
            times[name].append(time.perf_counter() - began)
    plain = statistics.median(times["plain"])
    missed = False
    for name, taken in times.items():
        # Rounds are paired, so that what slows the machine down for a while drops out.
        ratio = statistics.median(t / p for t, p in zip(taken, times["plain"], strict=True))
        print(f"{name:12} {1e3 * statistics.median(taken):7.1f} ms a step, {ratio:.3f}x plain")
        missed |= ratio > GOAL and not name.startswith("plain")
    print(f"goal: at most {GOAL}x ({1e3 * plain:.1f} ms): {'missed' if missed else 'reached'}")
    return int(missed)


def _step(method: Method | None, images: Tensor, labels: Tensor, rounds: int) -> Callable[[], None]:
    """A function that makes one training step with the method in place."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=True)
    context = _context(model, images, labels, rounds + 1)
    if method is not None:
        if isinstance(method, EWC):
            method.start(context)
            method.finish(context)
        method.start(context)
    model.train()
    inputs = context.transform.test(images)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        loss = F.cross_entropy(model(inputs), labels)
        penalty = method.penalty(model) if method is not None else None
        if penalty is not None:
            loss = loss + penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if method is not None:
            method.after_step(model, count)

    return step


def _context(model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Context:
    split = Split(TensorImages(images), torch.arange(len(labels)), labels)
    anchor = Anchor(snapshot(model), torch.arange(CLASSES) < CLASSES // 2)
    size = images.shape[-1]
    return Context(
        task=Task(1, "a task", range(CLASSES // 2), split, split, split),
        model=model,
        head=("fc.weight", "fc.bias"),
        anchors=Anchors(anchor, anchor),
        total_steps=steps,
        reader=Reader(Transform(size, (0.5,) * 3, (0.5,) * 3, Augment())),
        losses=ClassLoss("all", labels, torch.zeros(CLASSES).long(), torch.ones(CLASSES).bool()),
        seed=0,
        batch_size=len(labels),
    )


if __name__ == "__main__":
    sys.exit(main())
