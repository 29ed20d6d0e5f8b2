"""iCaRL: exemplars by herding, distillation, and the nearest mean of exemplars.

[0] Rebuffi et al., *iCaRL: incremental classifier and representation learning*, Algorithms 1 to 5.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from clbench.data.batches import Examples, Split
from clbench.methods.base import Context, Forward, Needs
from clbench.methods.binary import binary_distillation, binary_losses
from clbench.methods.collected import collected, with_rows
from clbench.methods.distilling import Distilling, known_before
from clbench.methods.exemplars import exemplar_means, herd_ranks, places, select
from clbench.methods.lwf import distillation
from clbench.methods.plan import Remark
from clbench.weights import State


class ICaRL(Distilling):
    """Trains on the task and ``size`` exemplars, and shows the nearest mean of exemplars [0].

    Exemplars are as many of each class, chosen by herding when its task ends; an epoch passes over
    them once. Each of the task's classes has a loss by itself, and the old ones are kept by
    distillation (``loss: binary``, the paper, where ``train_logits`` has no part). PyCIL and PILOT
    have a softmax for either (``loss: softmax``, with ``train_logits: seen``). The nearest mean of
    unit length is that of largest cosine, and so a linear head, which is shown; what was trained
    goes on. Its place in the recipe says on which trunk::

        methods: {icarl: {size: 2000}}
    """

    summary: ClassVar[str] = "exemplars by herding, distillation, nearest mean of exemplars"
    needs: ClassVar[Needs] = Needs(
        past_data=True, past_tasks=True, task_boundaries=True, copies=1, passes=1
    )
    makes_head: ClassVar[bool] = True
    clashes: ClassVar[dict[str, str]] = {
        "align_head": "the former classifies by means of exemplars, and not by a trained head",
        "er_ace": "each has a loss of its own for old and new samples",
    }

    size: int = Field(2000, ge=1, description="exemplars, all tasks together")
    loss: Literal["binary", "softmax"] = Field(
        "binary",
        description="binary: each class by itself (the paper); softmax: cross-entropy and "
        "distillation at temperature (PyCIL, PILOT)",
    )
    temperature: float = Field(2.0, gt=0, description="softmax: T of the distillation")

    #: Positions, labels and places in their herds of the exemplars; means (C, F) of classes.
    _index: Tensor = torch.empty(0, dtype=torch.int64)
    _labels: Tensor = torch.empty(0, dtype=torch.int64)
    _ranks: Tensor = torch.empty(0, dtype=torch.float64)
    _means: Tensor = torch.empty(0, 0, dtype=torch.float64)
    #: Of the task: int64 (K,) its classes and those before.
    _own_K: Tensor = torch.empty(0, dtype=torch.int64)
    _old_K: Tensor = torch.empty(0, dtype=torch.int64)
    _smoothing: float = 0.0
    _lacking: int = 0

    def added(self, past: int) -> int:
        return min(self.size, past)

    def examples(self, examples: Examples) -> Examples:
        current = examples.current
        stored = Split(current.images, self._index, self._labels)
        return replace(examples, current=Split.joined([current, stored]))

    def start(self, context: Context) -> None:
        super().start(context)
        classes = context.task.classes
        self._old_K = known_before(context).nonzero().flatten()
        self._own_K = torch.arange(classes.start, classes.stop, device=context.device)
        self._smoothing = context.losses.smoothing
        self._lacking = max(0, int(context.seen_C.sum()) - self.size)

    def remarks(self) -> list[Remark]:
        told = f"{self._lacking:,} classes have none and are never the answer: raise size"
        return [Remark("fewer exemplars than classes", told)] if self._lacking else []

    def sample_losses(self, forward: Forward) -> Tensor | None:
        if self.loss == "softmax":
            return None
        labels_B = forward.batch.labels
        return binary_losses(forward.logits_BC.float(), labels_B, self._own_K, self._smoothing)

    def _apart(self, logits_BC: Tensor, old_BC: Tensor) -> Tensor:
        if self.loss == "binary":
            return binary_distillation(logits_BC, old_BC, self._old_K)
        return distillation(logits_BC, old_BC, self.temperature, [self._old_K])

    def absorb(self, theta: State, context: Context) -> None:
        """Choose exemplars of the task, leave out the last ones of others, take all means anew."""
        train = context.task.train
        # On a CPU, so that all processes choose the same.
        features_NF = torch.cat([found.features_BF.cpu() for found in collected(theta, context)])
        wanted = places(self._labels, train.labels, self.size)
        ranks = torch.cat([self._ranks, herd_ranks(features_NF, train.labels, wanted)])
        index = torch.cat([self._index, train.index])
        labels = torch.cat([self._labels, train.labels])
        past = len(self._index)
        kept = select(labels, ranks, self.size, by_class=True)
        old, own = kept[kept < past], kept[kept >= past] - past  # in this order, as kept ascends
        self._index, self._labels, self._ranks = index[kept], labels[kept], ranks[kept]
        stored = Split(train.images, index[old], labels[old])
        again = [x.features_BF.cpu() for x in collected(theta, context, stored)] if len(old) else []
        found = torch.cat([*again, features_NF[own]])
        self._means = exemplar_means(found, self._labels, len(theta[context.head[0]]))

    def deploy(self, theta: State, context: Context) -> State:
        return with_rows(theta, context, context.seen_C.cpu(), self._means, None)

    @property
    def carries(self) -> bool:
        return False

    def activity(self) -> dict[str, float]:
        return super().activity() | {"active": 1.0, "stored_samples": float(len(self._index))}

    def stored_samples(self) -> int:
        return len(self._index)

    def state_dict(self) -> dict[str, object]:
        return {name: getattr(self, f"_{name}") for name in ("index", "labels", "ranks", "means")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, stored in state.items():
            setattr(self, f"_{name}", stored)
