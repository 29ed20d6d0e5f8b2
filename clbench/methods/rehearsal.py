"""What methods share that draw batches of their own from a reservoir of samples seen so far."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from clbench.data.batches import Split, dealt
from clbench.data.transforms import DRAWS
from clbench.methods.base import Context, Forward, Method
from clbench.methods.forward import LastStep
from clbench.methods.replay import reservoir
from clbench.processes.processes import gathered, rank_and_world
from clbench.seeding import generator
from clbench.weights import State

#: Keys of what is drawn at a step: places of the reservoir; the replayed batches.
KEEP, FIRST, SECOND = range(3)


class Rehearsing(Method):
    """A reservoir takes in every sample of every batch, the current task's as well; abstract.

    Stored are positions of images, which are augmented anew.
    """

    every_batch: ClassVar[bool] = True
    #: What is stored of a sample: attributes, and keys of the state.
    stored: ClassVar[tuple[str, ...]] = ("index", "labels")

    size: int = Field(500, ge=1, description="stored samples, all tasks together")
    batch: int | None = Field(
        None, ge=1, description="samples of a replayed batch; default: batch_size"
    )

    _context: Context = None  # type: ignore[assignment]  # between tasks there is none
    _seen: int = 0
    _batches: int = 0
    #: Of what is stored: positions (N,) and labels (N,).
    _index: Tensor = torch.empty(0, dtype=torch.int64)
    _labels: Tensor = torch.empty(0, dtype=torch.int64)
    _last: LastStep = LastStep()
    _told: dict[str, float] = {}

    @property
    @abstractmethod
    def _on(self) -> bool:
        """Whether the settings let it do anything."""

    def start(self, context: Context) -> None:
        self._context, self._batches, self._last, self._told = context, 0, LastStep(), {}

    def _replayed(self, forward: Forward, key: int) -> tuple[Tensor, Tensor, float]:
        """This process's part of a batch from the reservoir: places, logits, share of the mean."""
        context, random = self._context, generator(self._context.seed, self._batches, key)
        count = min(self.batch or context.batch_size, len(self._index))
        drawn = torch.randperm(len(self._index), generator=random)[:count]
        draws_BD = torch.rand(count, DRAWS, generator=random)
        mine, share = dealt(count, *rank_and_world(), least=min(2, count))
        split = Split(context.task.train.images, self._index[drawn], self._labels[drawn])
        at = [torch.arange(count)[mine]]
        (batch,) = context.reader.batches(split, context.device, at, draws_BD)
        return drawn[mine], forward.model(batch.inputs).float(), share

    def _of(self, forward: Forward) -> State:
        """What of a batch is stored, (B, …) each, by the names in :attr:`stored`."""
        return {"index": forward.batch.indices, "labels": forward.batch.labels}

    def observe(self, forward: Forward) -> None:
        if not self._on:
            return
        batch, count = forward.batch, len(forward.batch.labels) if forward.batch.share else 0
        # Each process has every so-manieth sample: first all their first ones, as in the batch.
        order = gathered(torch.arange(count, device=batch.labels.device)).argsort(stable=True)
        new = {name: gathered(x[:count])[order].cpu() for name, x in self._of(forward).items()}
        random = generator(self._context.seed, self._batches, KEEP)
        places = reservoir(self.size, self._seen, len(order), random).tolist()
        last = {place: number for number, place in enumerate(places) if place >= 0}
        room = max([len(self._index) - 1, *last]) + 1
        for name in self.stored:
            setattr(self, f"_{name}", _put(getattr(self, f"_{name}"), room, last, new[name]))
        self._seen, self._batches = self._seen + len(order), self._batches + 1

    def finish(self, context: Context) -> None:
        self._context, self._told = None, self._last.means()  # type: ignore[assignment]

    def activity(self) -> dict[str, float]:
        stored = float(len(self._index))
        return {"active": float(bool(self._told)), "stored_samples": stored, **self._told}

    def stored_samples(self) -> int:
        return len(self._index)

    def state_dict(self) -> dict[str, object]:
        return {name: getattr(self, f"_{name}") for name in self.stored} | {"seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.stored:
            setattr(self, f"_{name}", state[name])
        self._seen = int(state["seen"])


def _put(stored: Tensor, room: int, places: dict[int, int], values: Tensor) -> Tensor:
    """``stored`` (N, …) of ``room`` places, with rows of ``values`` put where they go."""
    grown = values.new_zeros(room, *values.shape[1:])
    if len(stored):
        grown[: len(stored)] = stored
    grown[list(places)] = values[list(places.values())]
    return grown
