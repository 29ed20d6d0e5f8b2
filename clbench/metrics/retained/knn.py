"""Weighted nearest neighbours.

[0] Wu et al., *Unsupervised feature learning via non-parametric instance discrimination*, 3.4;
    k = 20 and T = 0.07 are those of DINO (Caron et al., *Emerging properties in self-supervised
    vision transformers*).
"""

from __future__ import annotations

from typing import ClassVar, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clbench.errors import ClbenchError
from clbench.metrics.retained.base import Classifier

#: Queries whose similarities are held at a time.
CHUNK = 1024


def nearest_votes(
    queries_QF: Tensor,
    reference_MF: Tensor,
    labels_M: Tensor,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> Tensor:
    """Votes (Q, classes) of the k references of largest cosine s, each exp(s/T) [0].

    A query's votes are divided by that of its nearest, which changes no order and cannot overflow.

    Args:
        queries_QF, reference_MF: features.
        labels_M: int64, in 0…classes-1.
        classes: how many.
        k: neighbours, at most M.
        temperature: T.
    """
    reference_MF = F.normalize(reference_MF, dim=1)
    return torch.cat(
        [
            votes_of(queries_BF @ reference_MF.T, labels_M, classes, k, temperature)
            for queries_BF in F.normalize(queries_QF, dim=1).split(CHUNK)
        ]
    )


def votes_of(
    cosines_BM: Tensor, labels_M: Tensor, classes: int, k: int, temperature: float
) -> Tensor:
    """The same votes (B, classes), from the cosines with all references."""
    cosines_BK, near_BK = cosines_BM.topk(k, dim=1)
    weights_BK = ((cosines_BK - cosines_BK[:, :1]) / temperature).exp()
    empty = weights_BK.new_zeros(len(cosines_BM), classes)
    return empty.scatter_add_(1, labels_M[near_BK], weights_BK)


@final
class KNN(Classifier):
    """The class of the most similar reference images, weighted by exp(cosine/T) [0]."""

    summary: ClassVar[str] = "accuracy of weighted nearest neighbours among the features"

    k: int = Field(20, ge=1, description="neighbours")
    temperature: float = Field(0.07, gt=0, description="T of the weights exp(cosine/T)")

    def answers(
        self, queries_QF: Tensor, reference_MF: Tensor, labels_M: Tensor, classes: int
    ) -> Tensor:
        """See :meth:`Classifier.answers`.

        Raises:
            ClbenchError: if there are fewer than k reference images.
        """
        if why := self.lacks(len(queries_QF), len(reference_MF)):
            raise ClbenchError(f"retention: {why}")
        votes_QC = nearest_votes(
            queries_QF, reference_MF, labels_M, classes, self.k, self.temperature
        )
        return votes_QC.argmax(1)

    def lacks(self, images: int, references: int) -> str:
        """See :meth:`FeatureMeasure.lacks`."""
        if self.k <= references:
            return ""
        return (
            f"knn.k = {self.k}, but there are {references} reference images: lower k, or give more "
            "images to learn from"
        )
