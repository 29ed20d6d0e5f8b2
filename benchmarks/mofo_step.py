"""Time of a MoFO step on ResNet-18's parameters, against the authors' way and torch's AdamW.

    python benchmarks/mofo_step.py

What is compared takes turns (A B C A B C …) in one run, so that whatever else the machine does
meets all alike; medians are compared. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

# Threads that wait by spinning starve each other as soon as the machine does anything else.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import timm
import torch
from torch import Tensor, nn

from clbench.optim import MoFO


class ReferenceMoFO(torch.optim.Optimizer):
    """Momentum-filtered AdamW tensor by tensor: a full topk, then a masked update."""

    def __init__(self, params: list[nn.Parameter], lr: float, fraction: float) -> None:
        super().__init__(params, {"lr": lr, "fraction": fraction})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                self._update(p, group["lr"], group["fraction"])

    def _update(self, p: Tensor, lr: float, fraction: float) -> None:
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state |= {"step": 0, "first": torch.zeros_like(p), "second": torch.zeros_like(p)}
        state["step"] += 1
        state["first"].mul_(0.9).add_(p.grad, alpha=0.1)
        state["second"].mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
        magnitude = state["first"].abs()
        threshold = magnitude.view(-1).topk(max(1, int(p.numel() * fraction))).values[-1]
        mask = magnitude >= threshold
        denominator = (state["second"] / (1 - 0.999 ** state["step"])).sqrt_().add_(1e-8)
        update = state["first"] / (1 - 0.9 ** state["step"]) / denominator
        p.add_(update * mask, alpha=-lr)


def parameters(backbone: str) -> list[nn.Parameter]:
    """The parameters of an untrained timm model, each with a random gradient."""
    torch.manual_seed(0)
    weights = [nn.Parameter(p.detach().clone()) for p in timm.create_model(backbone).parameters()]
    for p in weights:
        p.grad = torch.randn_like(p)
    return weights


def medians(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each, as the median over rounds in which each runs once."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(-2, rounds):  # the first two warm up
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> int:
    """Measure, print a table, and say by the exit code whether the goals hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18", help="timm model")
    parser.add_argument("--fraction", type=float, default=0.15)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    def fresh() -> list[nn.Parameter]:
        return parameters(options.backbone)

    took = medians(
        {
            "authors' way": ReferenceMoFO(fresh(), 1e-5, options.fraction).step,
            "MoFO": MoFO(fresh(), 1e-5, fraction=options.fraction).step,
            "MoFO(foreach=True)": MoFO(fresh(), 1e-5, fraction=options.fraction, foreach=True).step,
            "AdamW(foreach=True)": torch.optim.AdamW(fresh(), 1e-5, foreach=True).step,
            "AdamW(fused=True)": torch.optim.AdamW(fresh(), 1e-5, fused=True).step,
        },
        options.rounds,
    )
    print(
        f"{options.backbone}, {sum(p.numel() for p in fresh()) / 1e6:.1f} M parameters, fraction "
        f"{options.fraction}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"median of {options.rounds} rounds"
    )
    for name, value in took.items():
        print(f"  {name:<22}{value * 1e3:8.1f} ms")
    faster = took["authors' way"] / took["MoFO"]
    slower = took["MoFO"] / took["AdamW(foreach=True)"]
    print(f"  {'ratio':<32}{'measured':>10}{'goal':>8}")
    goals = [
        ("authors' way / MoFO", faster, "≥ 4", faster >= 4),
        ("MoFO / AdamW(foreach=True)", slower, "≤ 3", slower <= 3),
    ]
    for name, ratio, goal, holds in goals:
        print(f"  {name:<32}{ratio:>9.2f}×{goal:>8}  {'holds' if holds else 'MISSED'}")
    return 0 if all(holds for *_, holds in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
