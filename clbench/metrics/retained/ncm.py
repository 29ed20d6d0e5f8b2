"""Nearest class mean.

[0] Mensink et al., *Distance-based image classification: generalizing to new classes at near-zero
    cost*: the nearest mean by Euclidean distance.
[1] Zhou et al., *Revisiting class-incremental learning with pre-trained models* (SimpleCIL): the
    mean of largest cosine.
"""

from __future__ import annotations

from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clbench.metrics.retained.base import Classifier, one_hot

Nearness = Literal["cosine", "euclidean"]


def nearest_mean(means_CF: Tensor, metric: Nearness) -> tuple[Tensor, Tensor | None]:
    """A linear head whose largest logit is that of the nearest mean.

    Of a feature f, all classes have ‖f‖ in common: by cosine, μ/‖μ‖ decides [1]; by distance,
    μ·f − ‖μ‖²/2 [0].

    Args:
        means_CF: μ, of every class.
        metric: ``cosine`` or ``euclidean``.

    Returns:
        Weight (C, F), and bias (C,) or None where there is none.

    >>> nearest_mean(torch.tensor([[3.0, 4.0]]), "euclidean")
    (tensor([[3., 4.]]), tensor([-12.5000]))
    """
    if metric == "cosine":
        return torch.nn.functional.normalize(means_CF, dim=1), None
    return means_CF, -means_CF.square().sum(1) / 2


@final
class NearestMean(Classifier):
    """The class whose mean feature is nearest [0, 1]."""

    summary: ClassVar[str] = "accuracy of the nearest class mean"

    metric: Nearness = Field("cosine", description="cosine, or euclidean distance")

    def answers(
        self, queries_QF: Tensor, reference_MF: Tensor, labels_M: Tensor, classes: int
    ) -> Tensor:
        """See :meth:`Classifier.answers`."""
        member_MC = one_hot(labels_M, classes)
        means_CF = member_MC.T @ reference_MF.double() / member_MC.sum(0)[:, None]
        weight_CF, bias_C = nearest_mean(means_CF, self.metric)
        return torch.nn.functional.linear(queries_QF.double(), weight_CF, bias_C).argmax(1)
