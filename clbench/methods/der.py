"""Dark experience replay (DER, DER++): past images with the logits they had.

[0] Buzzega et al., *Dark experience for general continual learning: a strong, simple baseline*,
    eqs. 5 and 6, Algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clbench.data.batches import Split, dealt
from clbench.data.transforms import DRAWS
from clbench.methods.base import Context, Forward, Method, Needs
from clbench.methods.forward import LastStep
from clbench.methods.replay import reservoir
from clbench.processes.processes import gathered, rank_and_world
from clbench.seeding import generator

#: Keys of what is drawn at a step: places of the reservoir; the two replayed batches.
KEEP, FIRST, SECOND = range(3)


class DERpp(Method):
    """Adds α·‖z(x′) − z′‖² and β·CE(z(x″), y″), each of a batch drawn from a reservoir [0].

    The square is a mean over samples and classes, as in the authors' program. z′ are the logits of
    x′ when it came by in training; stored are positions of images, which are augmented anew. The
    reservoir takes in every sample of every batch, the current task's as well. ``beta: 0`` is DER.
    The cross-entropy is among the classes of ``train_logits``; the paper's is ``all``.
    """

    summary: ClassVar[str] = "replay past images with the logits they had (DER++; DER: beta 0)"
    neutral: ClassVar[Mapping[str, float]] = {"alpha": 0.0, "beta": 0.0}
    every_batch: ClassVar[bool] = True
    mixable: ClassVar[bool | None] = False  # a stored logit is of one image

    alpha: float = Field(0.3, ge=0, description="α, of the distance from stored logits; 0 is off")
    beta: float = Field(0.5, ge=0, description="β, of the replayed samples' loss; 0 is DER")
    size: int = Field(500, ge=1, description="stored samples, all tasks together")
    batch: int | None = Field(
        None, ge=1, description="samples of a replayed batch; default: batch_size"
    )

    _context: Context = None  # type: ignore[assignment]  # between tasks there is none
    _seen: int = 0
    _batches: int = 0
    #: Of what is stored: positions (N,), labels (N,) and logits (N, C).
    _index: Tensor = torch.empty(0, dtype=torch.int64)
    _labels: Tensor = torch.empty(0, dtype=torch.int64)
    _logits: Tensor = torch.empty(0, 0)
    _last: LastStep = LastStep()
    _told: dict[str, float] = {}

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """A pass for each of the replayed batches."""
        return Needs(past_data=True, past_tasks=True, passes=(self.alpha > 0) + (self.beta > 0))

    @property
    def _on(self) -> bool:
        return self.alpha > 0 or self.beta > 0

    def start(self, context: Context) -> None:
        self._context, self._batches, self._last, self._told = context, 0, LastStep(), {}

    def rows(self, context: Context) -> Tensor | None:
        """All: stored logits are of all classes."""
        return torch.ones_like(context.losses.idle) if self._on else None

    def penalty(self, forward: Forward) -> Tensor | None:
        if not self._on or not len(self._index):
            return None
        total, part = torch.zeros((), device=forward.logits_BC.device), forward.batch.part
        if self.alpha:
            chosen, logits_BC, share = self._replayed(forward, FIRST)
            stored_BC = self._logits[chosen].to(logits_BC.device)
            value = share * part * F.mse_loss(logits_BC, stored_BC)
            self._last.add(forward.step, "logits_distance", value)
            total = total + self.alpha * value
        if self.beta:
            chosen, logits_BC, share = self._replayed(forward, SECOND)
            labels_B = self._labels[chosen].to(logits_BC.device)
            value = share * part * self._context.losses(logits_BC, labels_B).mean()
            self._last.add(forward.step, "replayed_loss", value)
            total = total + self.beta * value
        return total

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

    def observe(self, forward: Forward) -> None:
        if not self._on:
            return
        batch, count = forward.batch, len(forward.batch.labels) if forward.batch.share else 0
        new = (batch.indices, batch.labels, forward.logits_BC.detach().float())
        # Each process has every so-manieth sample: first all their first ones, as in the batch.
        order = gathered(torch.arange(count, device=batch.labels.device)).argsort(stable=True)
        index, labels, logits = (gathered(x[:count])[order].cpu() for x in new)
        random = generator(self._context.seed, self._batches, KEEP)
        places = reservoir(self.size, self._seen, len(index), random).tolist()
        last = {place: number for number, place in enumerate(places) if place >= 0}
        room = max([len(self._index) - 1, *last]) + 1
        self._index = _put(self._index, room, last, index)
        self._labels = _put(self._labels, room, last, labels)
        self._logits = _put(self._logits, room, last, logits)
        self._seen, self._batches = self._seen + len(index), self._batches + 1

    def finish(self, context: Context) -> None:
        self._context, self._told = None, self._last.means()  # type: ignore[assignment]

    def activity(self) -> dict[str, float]:
        stored = float(len(self._index))
        return {"active": float(bool(self._told)), "stored_samples": stored, **self._told}

    def stored_samples(self) -> int:
        return len(self._index)

    def state_dict(self) -> dict[str, object]:
        return {
            "index": self._index, "labels": self._labels, "logits": self._logits, "seen": self._seen
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._index, self._labels, self._logits = (state[k] for k in ("index", "labels", "logits"))
        self._seen = int(state["seen"])


def _put(stored: Tensor, room: int, places: dict[int, int], values: Tensor) -> Tensor:
    """``stored`` (N, …) of ``room`` places, with rows of ``values`` put where they go."""
    grown = values.new_zeros(room, *values.shape[1:])
    if len(stored):
        grown[: len(stored)] = stored
    grown[list(places)] = values[list(places.values())]
    return grown
