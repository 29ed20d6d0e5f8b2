"""How images pass through a network where it is not trained on them: one loop for all who do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from clbench.data.ahead import fetch_ahead
from clbench.data.batches import Split
from clbench.data.sending import sent
from clbench.data.transforms import Transform
from clbench.processes.processes import rank_and_world


class Inputs(NamedTuple):
    """Some samples of a split.

    Attributes:
        inputs: float32 (B, 3, S, S), on the device.
        labels: int64 (B,), global labels, on the device.
        positions: int64 (B,), in the split, on the CPU.
    """

    inputs: Tensor
    labels: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Reader:
    """Reads a split's images as input for a network, ahead where they are slow.

    Attributes:
        transform: turns stored images into input.
        batch_size: samples of a batch.
        workers: threads that read ahead.
        autocast: makes the context of the run's forward passes (mixed precision).
    """

    transform: Transform
    batch_size: int = 256
    workers: int = 4
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext

    def batches(
        self,
        split: Split,
        device: torch.device,
        parts: Sequence[Tensor] | None = None,
        draws_ND: Tensor | None = None,
    ) -> Iterator[Inputs]:
        """One batch of a split after the other.

        Args:
            split: the images.
            device: where their input goes.
            parts: positions in the split of each batch's samples; default: all, in order,
                ``batch_size`` at a time.
            draws_ND: uniform numbers (N, DRAWS) of all samples of the split, by which they are
                augmented; without, they are not.
        """
        if parts is None:
            parts = torch.arange(len(split)).split(self.batch_size)
        # No part without samples: that of a process which has none.
        fetched = fetch_ahead(
            lambda positions: (sent(split.images.take(split.index[positions]), device), positions),
            [positions for positions in parts if len(positions)],
            self.workers if split.images.slow else 0,
        )
        for pixels, positions in fetched:
            if draws_ND is None:
                inputs = self.transform.test(pixels)
            else:
                inputs = self.transform.train(pixels, sent(draws_ND[positions], device))
            yield Inputs(inputs, sent(split.labels[positions], device), positions)

    def own(self, split: Split, device: torch.device, size: int = 0) -> Iterator[Inputs]:
        """Batches of this process's part of a split: every sample is in one process's.

        Args:
            split: the images.
            device: where their input goes.
            size: samples of a batch; 0: ``batch_size``.
        """
        rank, world = rank_and_world()
        mine = torch.arange(len(split))[rank::world]
        return self.batches(split, device, mine.split(size or self.batch_size))


def distinct(splits: Sequence[Split]) -> tuple[list[Split], list[int]]:
    """The splits that differ, and for each of ``splits`` the place of the one that is the same.

    Tasks that meet the same classes again may all be tested on the same images, which need be read
    only once.
    """
    found: list[Split] = []
    places = []
    alike = defaultdict[object, list[int]](list)  # places of those that look the same
    for split in splits:
        first, last = split.index[:1].tolist(), split.index[-1:].tolist()
        looks = (id(split.images), len(split), *first, *last)
        known = alike[looks]
        place = next((n for n in known if _same(split, found[n])), len(found))
        if place == len(found):
            found.append(split)
            known.append(place)
        places.append(place)
    return found, places


def _same(one: Split, other: Split) -> bool:
    pairs = ((one.index, other.index), (one.labels, other.labels))
    return one.images is other.images and all(torch.equal(*pair) for pair in pairs)
