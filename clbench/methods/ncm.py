"""Nearest class mean: the head is made of the classes' mean features, without any training.

[0] Janson et al., *A simple baseline that questions the use of pretrained models in continual
    learning*: the nearest mean by Euclidean distance.
[1] Zhou et al., *Revisiting class-incremental learning with pre-trained models* (SimpleCIL): the
    mean of largest cosine.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context
from clbench.methods.collected import Collecting, collected, with_rows
from clbench.metrics.retained.ncm import Nearness, nearest_mean
from clbench.weights import State


class NCM(Collecting):
    """A class's row of the head is its mean feature: classes are never touched again [0, 1].

    Where tasks share labels, a mean is over all tasks so far. Logits by cosine lack the feature's
    length: predictions are those of [1], probabilities are not.
    """

    summary: ClassVar[str] = "classes' mean features make the head, without training (SimpleCIL)"

    metric: Nearness = Field("cosine", description="cosine (SimpleCIL), or euclidean distance")

    _sums: Tensor | None = None
    _counts: Tensor | None = None

    def forget(self) -> None:
        self._sums = self._counts = None

    def absorb(self, theta: State, context: Context) -> None:
        shape = theta[context.head[0]].shape
        if self._sums is None or self._counts is None:
            self._sums = torch.zeros(shape, dtype=torch.float64)
            self._counts = torch.zeros(len(self._sums), dtype=torch.int64)
        sums, counts = (x.to(context.device) for x in (self._sums, self._counts))
        for features_BF, labels_B in collected(theta, context):
            sums.index_add_(0, labels_B, features_BF)
            counts += torch.bincount(labels_B, minlength=len(counts))
        self._sums, self._counts = sums.cpu(), counts.cpu()
        self._activity = {"active": 1.0, "classes": float((counts > 0).sum())}

    def deploy(self, theta: State, context: Context) -> State:
        assert self._sums is not None
        assert self._counts is not None
        means_CF = self._sums / self._counts.clamp(min=1)[:, None]
        return with_rows(theta, context, self._counts > 0, *nearest_mean(means_CF, self.metric))

    def state_dict(self) -> dict[str, object]:
        return {} if self._sums is None else {"sums": self._sums, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums, self._counts = state.get("sums"), state.get("counts")
