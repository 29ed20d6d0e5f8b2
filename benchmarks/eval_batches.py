"""Evaluation in larger batches against batches of 256, the default of `eval_batch_size`.

    python benchmarks/eval_batches.py [--rounds 4] [--threads 1]

The same images go through the same network without gradients, in batches of other sizes; on a GPU,
where there is one, up to the largest that its memory holds, in bfloat16. There is no goal: where
larger batches are as fast as those of 256, there is nothing to gain from batches as large as fit,
which every change of the machine or of the network would make other ones. Seconds are those that
the process computes, on a GPU those of the clock.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import timm
import torch
from pairs import Pair, arguments, show, take_turns
from torch import Tensor, nn

USUAL = 256
SIZES = (32, 64, 128, 512, 1024, 2048, 4096)
CPU_LARGEST, SIZE = 1024, 96


def seconds_of(network: nn.Module, images: Tensor, size: int) -> float:
    """Of one pass over the images, in batches of a size."""
    gpu = images.is_cuda
    began = time.perf_counter() if gpu else time.process_time()
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=gpu):
        for part in images.split(size):
            network(part)
    if gpu:
        torch.cuda.synchronize()
        return time.perf_counter() - began
    return time.process_time() - began


def compare(name: str, device: torch.device, rounds: int) -> list[Pair]:
    """Each size against the usual one; those that memory does not hold are said."""
    gpu = device.type == "cuda"
    largest, size = (SIZES[-1], 224) if gpu else (CPU_LARGEST, SIZE)
    options = {"img_size": size} if name.startswith("vit") else {}
    network = timm.create_model(name, num_classes=10, **options).eval().to(device)
    images = torch.randn(largest, 3, size, size, device=device)
    pairs = []
    for batch in (batch for batch in SIZES if batch <= largest):
        try:
            sides = [partial(seconds_of, network, images, each) for each in (batch, USUAL)]
            ours, theirs = take_turns(sides[0], sides[1], rounds)
        except torch.cuda.OutOfMemoryError:
            print(f"{name}, batches of {batch}: more than the GPU's memory")
            break
        told = f"{name}, {size} × {size}, batches of {batch}"
        pairs.append(Pair(told, ours, theirs, largest, "image"))
    return pairs


def main() -> int:
    """Measure and print; there is nothing to miss."""
    options = arguments(__doc__, rounds=4)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = ("resnet18", "vit_small_patch16_224")
    pairs = [pair for name in names for pair in compare(name, device, options.rounds)]
    return show(pairs, f"batches of {USUAL}")


if __name__ == "__main__":
    sys.exit(main())
