"""A linear probe in closed form: ridge regression on the classes' indicators.

[0] Hoerl and Kennard, *Ridge regression: biased estimation for nonorthogonal problems*.
"""

from __future__ import annotations

from typing import ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from clbench.metrics.retained.base import Classifier, one_hot


def ridge_probe(reference_MF: Tensor, targets_MC: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Weights (F, C) and bias (C,), float64, of least Σ‖f·W + b − y‖² + λ·‖W‖² [0].

    λ is ``strength`` times the mean over the features of their sum of squares about the mean, so
    that a network whose features are all scaled alike has the same probe. The bias is free.

    Args:
        reference_MF: features.
        targets_MC: y.
        strength: above 0.
    """
    features_MF, targets_MC = reference_MF.double(), targets_MC.double()
    middle_F, mean_C = features_MF.mean(0), targets_MC.mean(0)
    centred_MF = features_MF - middle_F
    gram_FF = centred_MF.T @ centred_MF
    penalty = strength * gram_FF.diagonal().mean()
    # Where all features are equal there is nothing to learn: any λ gives W = 0.
    gram_FF.diagonal().add_(penalty if penalty > 0 else 1.0)
    weight_FC = torch.linalg.solve(gram_FF, centred_MF.T @ (targets_MC - mean_C))
    return weight_FC, mean_C - middle_F @ weight_FC


@final
class RidgeProbe(Classifier):
    """The largest output of a ridge regression on the reference images' classes [0]."""

    summary: ClassVar[str] = "accuracy of a linear probe in closed form (ridge regression)"

    strength: float = Field(
        0.1, gt=0, description="λ, times the mean sum of squares of centred features"
    )

    def answers(
        self, queries_QF: Tensor, reference_MF: Tensor, labels_M: Tensor, classes: int
    ) -> Tensor:
        """See :meth:`Classifier.answers`."""
        weight_FC, bias_C = ridge_probe(reference_MF, one_hot(labels_M, classes), self.strength)
        return (queries_QF.double() @ weight_FC + bias_C).argmax(1)
