"""Nearest neighbours: stored features vote, in place of the head, without any training.

[0] Wu et al., *Unsupervised feature learning via non-parametric instance discrimination*, section
    3.4; k = 20 and T = 0.07 are those of DINO's evaluation (Caron et al.).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context
from clbench.methods.collected import Collecting, collected
from clbench.metrics.retained.knn import votes_of
from clbench.seeding import generator
from clbench.weights import State

#: What a class's nearest sample counts beside votes: it decides where no neighbour is of a class.
BESIDE = 1e-6


def neighbour_scores(
    queries_BF: Tensor,
    stored_MF: Tensor,
    labels_M: Tensor,
    classes: int,
    k: int,
    temperature: float,
) -> Tensor:
    """Votes (B, classes) of the k stored features of largest cosine s, each exp(s/T) [0].

    On top stands 10⁻⁶ of the largest cosine with the class, -1 for one that nothing is stored of.

    Args:
        queries_BF, stored_MF: features.
        labels_M: int64, in 0…classes-1.
        classes: how many.
        k: neighbours; all, where fewer are stored.
        temperature: T.
    """
    k = min(k, len(stored_MF))
    cosines_BM = F.normalize(queries_BF, dim=1) @ F.normalize(stored_MF, dim=1).T
    votes_BC = votes_of(cosines_BM, labels_M, classes, k, temperature)
    nearest_BC = torch.full_like(votes_BC, -1.0)
    nearest_BC.scatter_reduce_(1, labels_M.expand_as(cosines_BM), cosines_BM, "amax")
    return votes_BC + BESIDE * nearest_BC


class NearestNeighbours(Collecting):
    """Classifies by the votes of the nearest stored features, in place of the head [0].

    Of every task its samples' features are kept, no images, or ``per_class`` of each class. Among a
    task's own classes, of which no neighbour may be, the nearest sample decides. Votes are no
    logits: accuracies are meant, not probabilities. On a finished run it is post hoc::

        methods: {knn: {per_class: 100, tuned: always}}
    """

    summary: ClassVar[str] = "stored features of nearest neighbours vote, without training"

    k: int = Field(20, ge=1, description="neighbours")
    temperature: float = Field(0.07, gt=0, description="T of the votes exp(cosine/T)")
    per_class: int | None = Field(
        None, ge=1, description="features that are kept of each class of a task; default: all"
    )

    #: ``features`` (M, F) float32 and ``labels`` (M,) int64, on the CPU.
    _memory: dict[str, Tensor] = {}
    _classes: int = 0

    def forget(self) -> None:
        self._memory = {}

    def absorb(self, theta: State, context: Context) -> None:
        self._classes = len(theta[context.head[0]])
        parts = zip(*collected(theta, context), strict=True)
        features_NF, labels_N = (torch.cat(part).cpu() for part in parts)
        order = torch.arange(len(labels_N))
        if self.per_class is not None:
            drawn = torch.randperm(len(labels_N), generator=generator(context.seed, 11))
            kept = [drawn[labels_N[drawn] == c][: self.per_class] for c in labels_N.unique()]
            order = torch.cat(kept).sort().values
        new = {"features": features_NF[order].float(), "labels": labels_N[order]}
        old = self._memory or {name: x[:0] for name, x in new.items()}
        self._memory = {name: torch.cat([old[name], x]) for name, x in new.items()}
        self._activity = {"active": 1.0, "stored": float(len(self._memory["labels"]))}

    def classifier(self) -> Callable[[Tensor], Tensor] | None:
        return self._classify if self._memory else None

    def _classify(self, features_BF: Tensor) -> Tensor:
        memory = {name: x.to(features_BF.device) for name, x in self._memory.items()}
        settings = (self._classes, self.k, self.temperature)
        return neighbour_scores(features_BF, memory["features"], memory["labels"], *settings)

    def state_dict(self) -> dict[str, object]:
        return dict(self._memory) | {"classes": self._classes} if self._memory else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._classes = state.get("classes", 0)
        self._memory = {name: state[name] for name in ("features", "labels") if name in state}
