"""How long a network takes for a batch, roughly: what it takes anyway, and for each image.

A batch of 2 costs EfficientNet on a CPU a third of a batch of 20, and on a GPU as much as it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import nn

#: Two sizes of a batch; the second only if the first takes less than this many seconds.
FEW, MORE, SLOW = 2, 8, 0.2


class Seconds(NamedTuple):
    """Seconds of a batch.

    Attributes:
        fixed: what it takes anyway.
        each: what every image adds.
    """

    fixed: float
    each: float

    def of(self, images: float) -> float:
        """Of a batch of so many images."""
        return self.fixed + self.each * images

    def images(self, seconds: float) -> int:
        """How many images fit into a time."""
        return int((seconds - self.fixed) / self.each)

    def ratio(self, images: float, measured: int) -> float:
        """How much longer a batch takes than one that was measured."""
        return self.of(images) / self.of(measured)


def now(device: torch.device) -> float:
    """Seconds on the clock once the device is through with its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def speed(
    model: nn.Module,
    size: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[Seconds, Seconds]:
    """Seconds of a training step without its optimiser, and of its forward half.

    Args:
        model: in training mode; its gradients are gone afterwards.
        size: pixels of a side.
        device: where the model is.
        autocast: what the forward pass runs in.
    """
    few = _times(model, FEW, size, device, autocast)
    if few[0] > SLOW:
        train, forward = (Seconds(0.0, seconds / FEW) for seconds in few)
    else:
        more = _times(model, MORE, size, device, autocast)
        train, forward = (_line(a, b) for a, b in zip(few, more, strict=True))
    model.zero_grad()
    return train, forward


def _line(few: float, more: float) -> Seconds:
    """Through two measurements: neither part is negative, and an image takes some time."""
    each = max((more - few) / (MORE - FEW), 0.01 * few)
    return Seconds(max(0.0, few - FEW * each), each)


def _times(
    model: nn.Module,
    images: int,
    size: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[float, float]:
    """The shortest step, and the shortest forward pass."""
    batch = torch.rand(images, 3, size, size, device=device)
    train, forward = list[float](), list[float]()
    while len(train) < 3 or (len(train) < 10 and sum(train) < 0.5):  # the first warm up
        began = now(device)
        with autocast():
            total = model(batch).float().sum()
        forward.append(now(device) - began)
        total.backward()
        train.append(now(device) - began)
    return min(train), min(forward)
