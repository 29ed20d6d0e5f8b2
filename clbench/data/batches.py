"""Batches for training: the same global batches on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from clbench.data.ahead import fetch_ahead
from clbench.data.images import Images
from clbench.data.mixing import Mixer, Partners
from clbench.data.sending import sent
from clbench.data.transforms import DRAWS, Augment
from clbench.errors import ClbenchError
from clbench.processes.processes import rank_and_world
from clbench.seeding import generator


class Batch(NamedTuple):
    """What one process sees of one global batch.

    Attributes:
        images: uint8 (B, C, S, S), as stored.
        labels: int64 (B,), global labels.
        indices: int64 (B,), positions in the stream's training images.
        draws: float32 (B, DRAWS), the uniform numbers that fix the augmentation.
        share: factor for the mean loss of this process, so that the mean over processes is the
            mean over the global batch; 1.0 unless a batch divides unevenly.
        part: samples of the global batch, as a share of those whose gradients are accumulated for
            one step; 1.0 where a batch makes a step.
        partners: what the images are mixed with; None where they are not.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    draws: Tensor
    share: float
    part: float = 1.0
    partners: Partners | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; itself, where it is there, as Lightning asks before each step."""
        if self.images.device == device:
            return self
        images, labels, indices, draws = (sent(x, device) for x in self[:4])
        partners = self.partners and self.partners.to(device)
        return Batch(images, labels, indices, draws, self.share, self.part, partners)


@dataclass(frozen=True)
class Split:
    """Some images of a source with their global labels.

    Attributes:
        images: the source.
        index: int64 (N,), positions in the source.
        labels: int64 (N,), global labels.
    """

    images: Images
    index: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def joined(cls, splits: Sequence[Split]) -> Split:
        """Several splits of one source as one.

        Raises:
            ValueError: if their sources differ.
        """
        if any(split.images is not splits[0].images for split in splits):
            raise ValueError("only splits of one source can be joined")
        return cls(
            splits[0].images,
            torch.cat([split.index for split in splits]),
            torch.cat([split.labels for split in splits]),
        )


@dataclass(frozen=True)
class Mixed:
    """Samples mixed into every batch.

    Attributes:
        split: where they come from.
        fraction: their share of each batch, in [0, 1). Fractions of a sample carry over from
            batch to batch, so that the share is right over an epoch.
    """

    split: Split
    fraction: float


@dataclass(frozen=True)
class Examples:
    """What a task trains on: its own data, and what methods mix in.

    Raises:
        ValueError: if what is mixed in does not come from the same source of images.
    """

    current: Split
    mixed: tuple[Mixed, ...] = field(default=())

    def __post_init__(self) -> None:
        if any(extra.split.images is not self.current.images for extra in self.mixed):
            raise ValueError("only samples of the task's own source of images can be mixed in")

    @property
    def labels(self) -> Tensor:
        """All global labels that can occur, int64 (K,), sorted."""
        parts = [self.current.labels, *(extra.split.labels for extra in self.mixed)]
        return torch.cat(parts).unique()


class _Drawn(NamedTuple):
    """What a process takes of a global batch, before it is fetched."""

    positions: Tensor
    labels: Tensor
    draws: Tensor
    share: float
    part: float
    #: Positions, labels and draws of the partners, λ and the centre of the box.
    others: tuple[Tensor, Tensor, Tensor, float, tuple[float, float] | None] | None = None


class Batches:
    """An iterable over the batches of one epoch after another, in a seeded order.

    All processes draw the same order and the same augmentation for the global batch, and each
    takes every ``world``-th sample of it. Nothing is padded and nothing dropped.

    Args:
        examples: what to train on.
        batch_size: samples of a global batch.
        keys: what the order depends on, e.g. ``(seed, task)``; the epoch is added.
        workers: threads that fetch batches ahead where the images are slow; 0 fetches in turn.
        accumulate: batches whose gradients make one step; at an epoch's end there may be fewer.
        least: samples that the network needs at a time, see
            :func:`clbench.models.batch_norm.least_batch`. A last batch of fewer joins that before.
        augment: whether images are mixed, by mixup and cutmix; default: they are not.
        device: where batches go as soon as they are fetched; default: where the images are.

    Raises:
        ClbenchError: if there are too few samples, or batches are too small, for ``least``.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        keys: tuple[int, ...],
        workers: int = 0,
        accumulate: int = 1,
        least: int = 1,
        augment: Augment | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.augment, self.device = augment or Augment(), device
        self.examples, self.batch_size, self.keys = examples, batch_size, keys
        self.accumulate, self.least = accumulate, least
        self.workers = workers if examples.current.images.slow else 0
        self.epoch = 0
        if any(sum(parts) < least for parts in self.sizes()):
            raise ClbenchError(
                f"batch_size = {batch_size} leaves batches of {min(map(sum, self.sizes()))} of "
                f"{len(examples.current)} training images, but BatchNorm needs at least {least} "
                "at a time: raise batch_size or the number of images, or take a backbone without "
                "BatchNorm"
            )

    def __len__(self) -> int:
        return len(self.sizes())

    def __iter__(self) -> Iterator[Batch]:
        plan = self._plan(self.epoch)
        self.epoch += 1
        yield from fetch_ahead(self._fetch, plan, self.workers)

    def sizes(self) -> list[list[int]]:
        """For each global batch of an epoch, its samples of the current data and of each mix."""
        left, sizes = len(self.examples.current), []
        fractions = [mixed.fraction for mixed in self.examples.mixed]
        due = [0.0] * len(fractions)  # what each mix has coming, fractions of a sample included
        while left > 0:
            full = [x + self.batch_size * f for x, f in zip(due, fractions, strict=True)]
            own = max(1, self.batch_size - sum(int(x + 1e-9) for x in full))
            if left < own and sum(fractions) < 1:  # the last batch is smaller, and so are its mixes
                own, size = left, left / (1 - sum(fractions))
                full = [x + size * f for x, f in zip(due, fractions, strict=True)]
            own = min(own, left)
            extra = [int(x + 1e-9) for x in full]
            due = [x - count for x, count in zip(full, extra, strict=True)]
            left -= own
            sizes.append([own, *extra])
        if len(sizes) > 1 and sum(sizes[-1]) < self.least:
            last = sizes.pop()
            sizes[-1] = [a + b for a, b in zip(sizes[-1], last, strict=True)]
        return sizes

    def _parts(self, sizes: list[list[int]]) -> Iterator[float]:
        """For each batch, its part of the samples that are accumulated with it."""
        for start in range(0, len(sizes), self.accumulate):
            counts = [sum(parts) for parts in sizes[start : start + self.accumulate]]
            yield from (count / sum(counts) for count in counts)

    def _plan(self, epoch: int) -> Iterator[_Drawn]:
        """For each batch, what this process takes."""
        rank, world = rank_and_world()
        random = generator(*self.keys, epoch)
        pools = [
            _Shuffled(split, random)
            for split in (self.examples.current, *(mixed.split for mixed in self.examples.mixed))
        ]
        sizes, rules = self.sizes(), self.augment
        # Numbers of its own, so that images and their order are those of a run without it.
        mixer = Mixer(rules.mixup, rules.cutmix, *self.keys, epoch, 1) if rules.mixes else None
        for counts, part in zip(sizes, self._parts(sizes), strict=True):
            drawn = [pool.next(count) for pool, count in zip(pools, counts, strict=True)]
            index = torch.cat([positions for positions, _ in drawn])
            labels = torch.cat([labels for _, labels in drawn])
            draws = torch.rand(len(index), DRAWS, generator=random)
            mine, share = dealt(len(index), rank, world, self.least)
            taken = _Drawn(index[mine], labels[mine], draws[mine], share, part)
            if mixer:
                order, kept, centre = mixer.next(len(index))
                theirs = order[mine]
                others = (index[theirs], labels[theirs], draws[theirs], kept, centre)
                taken = taken._replace(others=others)
            yield taken

    def _fetch(self, drawn: _Drawn) -> Batch:
        index, labels, draws, share, part, others = drawn
        partners = None
        if others is None:
            images = self._take(index)
        else:  # an image that is both its own and a partner is fetched once
            both, where = torch.cat([index, others[0]]).unique(return_inverse=True)
            found = self._take(both)
            images, theirs = found[sent(where, found.device)].split(len(index))
            named = [sent(x, found.device) for x in (others[1], others[2])]
            partners = Partners(theirs, named[0], named[1], *others[3:])
        labels, index, draws = (sent(x, images.device) for x in (labels, index, draws))
        return Batch(images, labels, index, draws, share, part, partners)

    def _take(self, index: Tensor) -> Tensor:
        images = self.examples.current.images.take(index)
        return images if self.device is None else sent(images, self.device)


def dealt(count: int, rank: int, world: int, least: int) -> tuple[slice, float]:
    """Which of ``count`` samples a process takes, and the share they have in the mean.

    Every ``world``-th; of few samples, not all processes get some, so that those that do get
    ``least``. A process that is left without takes the first ``least`` at a share of 0.
    """
    takers = min(world, max(1, count // least))
    if rank >= takers:
        return slice(0, least), 0.0
    return slice(rank, None, takers), len(range(rank, count, takers)) * world / count


class _Shuffled:
    """Hands out a split's samples in random order, reshuffled whenever it is used up."""

    def __init__(self, split: Split, random: torch.Generator) -> None:
        self.split, self.random = split, random
        self.order = torch.empty(0, dtype=torch.int64)

    def next(self, count: int) -> tuple[Tensor, Tensor]:
        while len(self.order) < count:
            more = torch.randperm(len(self.split), generator=self.random)
            self.order = torch.cat([self.order, more])
        chosen, self.order = self.order[:count], self.order[count:]
        return self.split.index[chosen], self.split.labels[chosen]
