"""A training step compiled, channels last and in bfloat16 against the eager bare loop.

    python benchmarks/compiled.py [--rounds 10] [--threads 1]

Every way makes the same steps from the same weights on the same random images, on a GPU where there
is one. What is timed is the time that the process computes, on a GPU that of the clock, of a block
of steps; compiling is shown apart. The goal, 1.3 times as fast as the eager loop in float32, is
asked of the best way of each network, in float32 and in any precision; the losses after the last
step say how far results are the same. On a GPU float32 is torch's default, TF32 in convolutions
alone.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import timm
import torch
import torch.nn.functional as F
from pairs import Pair, arguments, show, take_turns

from clbench.machine import has_bfloat16

#: Whether a way is channels last, compiled, in bfloat16.
WAYS = {
    "eager": (False, False, False),
    "channels last": (True, False, False),
    "compiled": (False, True, False),
    "both": (True, True, False),
    "bf16": (False, False, True),
    "bf16, channels last": (True, False, True),
    "bf16, compiled": (False, True, True),
}
CLASSES = 10
#: By device: images of a batch, their side in pixels, steps between two looks at the clock.
CASES = {"cpu": (32, 96, 1), "cuda": (64, 224, 20)}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def stepper(name: str, last: bool, compiled: bool, half: bool) -> Callable[[], float]:
    """What makes a step of a network, and returns its loss."""
    torch.manual_seed(0)
    batch, size, steps = CASES[DEVICE.type]
    options = {"img_size": size} if name.startswith("vit") else {}
    model = timm.create_model(name, num_classes=CLASSES, **options).train().to(DEVICE)
    images = torch.randn(batch, 3, size, size).to(DEVICE)
    labels = torch.randint(CLASSES, (batch,)).to(DEVICE)
    if last:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, 0.9, fused=True)
    forward = torch.compile(model) if compiled else model

    def step() -> float:
        for _ in range(steps):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
                loss = F.cross_entropy(forward(images).float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return step


def computing(step: Callable[[], float], losses: list[float]) -> float:
    """Seconds that the process computes in a block of steps, on a GPU those of the clock."""
    clock = time.perf_counter if DEVICE.type == "cuda" else time.process_time
    began = clock()
    losses.append(step())  # a number: the GPU has done its work
    return clock() - began


def compare(name: str, rounds: int) -> list[Pair]:
    """Every way against the eager loop; the goal is of the best."""
    pairs: dict[str, Pair] = {}
    block = CASES[DEVICE.type][2]
    for way, how in WAYS.items():
        if way == "eager" or (how[0] and name.startswith("vit")):
            continue
        if how[2] and not has_bfloat16(DEVICE):
            print(f"{name}, {way}: left out, the hardware has no bfloat16")
            continue
        losses: tuple[list[float], list[float]] = ([], [])
        steps = (stepper(name, *how), stepper(name, *WAYS["eager"]))
        first = computing(steps[0], losses[0])
        computing(steps[1], losses[1])
        sides = [partial(computing, step, of) for step, of in zip(steps, losses, strict=True)]
        ours, theirs = take_turns(sides[0], sides[1], rounds)
        pairs[way] = Pair(f"{name}, {way}", ours, theirs, block, "step")
        print(
            f"{name}, {way}: steps 1 to {block} {first:.1f} s; after {block * len(losses[0])} a "
            f"loss of {losses[0][-1]:.6f}, eager {losses[1][-1]:.6f}; "
            f"{statistics.median(pairs[way].ratios):.2f}×",
            flush=True,
        )
    for precision, half in (("float32", False), ("any precision", True)):
        best = max(
            (pair for way, pair in pairs.items() if half or not WAYS[way][2]),
            key=lambda pair: statistics.median(pair.ratios),
        )
        pairs[precision] = Pair(
            f"{name}, best in {precision}", best.ours, best.theirs, block, "step", at_least=1.3
        )
    return list(pairs.values())


def main() -> int:
    """Measure, print, and return the exit code."""
    options = arguments(__doc__, rounds=10)
    names = ("resnet18", "vit_small_patch16_224")
    return show([pair for name in names for pair in compare(name, options.rounds)], "eager")


if __name__ == "__main__":
    sys.exit(main())
