"""Replay (rehearsal): some samples of every batch come from past tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import torch
import torch.distributed as dist
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from clbench.data.batches import Examples, Mixed, Split
from clbench.methods.base import Context, Forward, Method, Needs
from clbench.methods.exemplars import (
    herd,
    herd_ranks,
    lowest,
    places,
    quotas,
    reservoir,
    select,
)
from clbench.models.training import extract
from clbench.processes.processes import world_size
from clbench.seeding import generator

if TYPE_CHECKING:
    from clbench.methods.plan import Plan

__all__ = ["Replay", "herd", "quotas", "reservoir", "select"]


class Replay(Method):
    """Mix stored samples of past tasks into every batch; the labels stay theirs.

    Only positions in the training data are stored. ``size`` bounds the samples of all tasks
    together, ``share`` those of each task; without either, all past data is replayed (rehearsal).
    ``fraction: 0`` is plain fine-tuning. An epoch is one pass over the current task's data, so
    that replay makes it longer: compare at equal ``steps`` where compute must be equal.
    """

    summary: ClassVar[str] = "mix samples of past tasks into every batch"
    neutral: ClassVar[Mapping[str, float]] = {"fraction": 0.0}
    mixable: ClassVar[bool | None] = True  # its weights only count
    needs: ClassVar[Needs] = Needs(past_data=True, past_tasks=True, task_boundaries=True)
    class_incremental: ClassVar[bool] = True
    scope_means: ClassVar[str] = (
        "replayed samples whose loss is among classes of other tasks, too; under train_logits: "
        "task none is, so that replay cannot raise class-incremental accuracy (task-incremental it "
        "can): say seen or all"
    )

    fraction: float = Field(0.05, ge=0, lt=1, description="share of each batch from past tasks")
    size: int | None = Field(None, ge=1, description="stored samples, all tasks together")
    share: float | None = Field(None, gt=0, le=1, description="stored share of each task's data")
    selection: Literal["reservoir", "balanced", "herding"] = Field(
        "reservoir",
        description="reservoir: any sample seen is as likely; balanced: as many of each class, at "
        "random; herding: as many of each class, those that give its mean feature best",
    )

    #: Positions, labels and ranks of what is stored; the lowest ranks are kept longest.
    _index: Tensor = torch.empty(0, dtype=torch.int64)
    _labels: Tensor = torch.empty(0, dtype=torch.int64)
    _ranks: Tensor = torch.empty(0, dtype=torch.float64)
    #: bool (N,): training images that are not of the current task.
    _past: Tensor | None = None
    _seen: Tensor | None = None
    _replayed: Tensor | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Replay:
        if self.size is not None and self.share is not None:
            raise PydanticCustomError("replay", "give either size or share")
        if self.selection != "reservoir" and self.size is None and self.share is None:
            raise PydanticCustomError(
                "replay",
                f"selection: {self.selection} has nothing to choose, as all past data is kept: "
                "give size or share",
            )
        return self

    @property
    def mixes(self) -> float:
        return self.fraction

    def examples(self, examples: Examples) -> Examples:
        if not self.fraction or not len(self._index):
            return examples
        stored = Split(examples.current.images, self._index, self._labels)
        return replace(examples, mixed=(*examples.mixed, Mixed(stored, self.fraction)))

    def start(self, context: Context) -> None:
        train = context.task.train
        self._past = torch.ones(len(train.images), dtype=torch.bool, device=context.device)
        self._past[train.index.to(context.device)] = False
        self._seen = self._replayed = torch.zeros((), dtype=torch.int64, device=context.device)

    def observe(self, forward: Forward) -> None:
        """Count what is really replayed."""
        assert self._seen is not None
        assert self._replayed is not None
        assert self._past is not None
        past = self._past[forward.batch.indices]
        self._seen, self._replayed = self._seen + len(past), self._replayed + past.sum()

    def finish(self, context: Context) -> None:
        train = context.task.train
        ranks = self._rank(context)
        kept = self._of_task(train.labels, ranks)
        self._index = torch.cat([self._index, train.index[kept]])
        self._labels = torch.cat([self._labels, train.labels[kept]])
        self._ranks = torch.cat([self._ranks, ranks[kept]])
        if self.size is not None:
            self._keep(select(self._labels, self._ranks, self.size, self._by_class))

    def activity(self) -> dict[str, float]:
        seen = int(self._seen) if self._seen is not None else 0
        replayed = int(self._replayed) if self._replayed is not None else 0
        return {
            "active": float(replayed > 0),
            "replayed_share": replayed / seen if seen else 0.0,
            "stored_samples": float(len(self._index)),
        }

    def scope(self, plan: Plan) -> float:
        """The share of replayed samples that compete with the classes of other tasks.

        It is 0 where so small a fraction replays none.
        """
        none = self.fraction * plan.samples < 1
        return float(not self.fraction or (plan.train_logits != "task" and not none))

    def stored_samples(self) -> int:
        return len(self._index)

    def state_dict(self) -> dict[str, object]:
        return {"index": self._index, "labels": self._labels, "ranks": self._ranks}

    def load_state_dict(self, state: dict[str, object]) -> None:
        stored = cast("dict[str, Tensor]", state)
        self._index, self._labels, self._ranks = (
            stored[name] for name in ("index", "labels", "ranks")
        )

    @property
    def _by_class(self) -> bool:
        return self.selection != "reservoir"

    def _rank(self, context: Context) -> Tensor:
        """Ranks float64 (N,) of the task's samples: random, or their place in the herd."""
        train = context.task.train
        if self.selection != "herding":
            # Keeping the lowest of independent random ranks is reservoir sampling (Vitter).
            return torch.rand(len(train), generator=generator(context.seed), dtype=torch.float64)
        found = extract(context.model, train, context.reader)
        ranks = herd_ranks(found, train.labels, self._wanted(train.labels))
        if world_size() > 1:  # rounding may differ between devices, what is stored must not
            shared = ranks.to(context.device)
            dist.broadcast(shared, 0)
            ranks = shared.cpu()
        return ranks

    def _wanted(self, labels: Tensor) -> dict[int, int]:
        """How many samples to keep of each class of a task with these labels (N,)."""
        if self.share is None:
            return places(self._labels, labels, self.size or len(labels))
        own = torch.unique(labels).tolist()
        return {label: _part(int((labels == label).sum()), self.share) for label in own}

    def _of_task(self, labels: Tensor, ranks: Tensor) -> Tensor:
        """Positions (K,) of the samples of a task that ``share`` keeps."""
        if self.share is None:
            return torch.arange(len(labels))
        if not self._by_class:
            return select(labels, ranks, _part(len(labels), self.share), False)
        return lowest(labels, ranks, self._wanted(labels))

    def _keep(self, rows: Tensor) -> None:
        self._index, self._labels = self._index[rows], self._labels[rows]
        self._ranks = self._ranks[rows]


def _part(count: int, share: float) -> int:
    return max(1, round(share * count))
