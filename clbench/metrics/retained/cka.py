"""Centred kernel alignment of a network's features with those of the pretrained network.

[0] Kornblith et al., *Similarity of neural network representations revisited*: linear CKA.
[1] Song et al., *Feature selection via dependence maximization*, 4.2: the unbiased estimate of
    HSIC that stands in it for ``debiased``.
"""

from __future__ import annotations

from typing import ClassVar, final

from pydantic import Field
from torch import Tensor

from clbench.errors import ClbenchError
from clbench.metrics.retained.base import FeatureMeasure, Look

#: Images that the unbiased estimate needs.
LEAST = 4


def linear_cka(ours_NF: Tensor, theirs_NG: Tensor, debiased: bool = False) -> float:
    """Linear CKA, ‖XᵀY‖² / (‖XᵀX‖·‖YᵀY‖) of centred features [0]; 1: equal but for rotation and
    scale.

    Of fewer images than features it is near 1 whatever they are; the debiased estimate [1] is not,
    and may be negative. 0 where one of the networks has features that tell no images apart.

    Args:
        ours_NF, theirs_NG: features of the same images.
        debiased: estimate without bias; from four images on.
    """
    ours_NF, theirs_NG = (x.double() - x.double().mean(0) for x in (ours_NF, theirs_NG))
    across = _alignment(ours_NF, theirs_NG, debiased)
    ours, theirs = (_alignment(x, x, debiased) for x in (ours_NF, theirs_NG))
    # The estimate of a likeness to oneself may be negative, too: two of them would pass for one.
    return float(across / (ours * theirs).sqrt()) if ours > 0 and theirs > 0 else 0.0


def _alignment(ours_NF: Tensor, theirs_NG: Tensor, debiased: bool) -> Tensor:
    """tr(KL) of the Gram matrices K and L of centred features, or the unbiased HSIC's multiple."""
    product = (ours_NF.T @ theirs_NG).square().sum()
    if not debiased:
        return product
    # [1] with the diagonals of K and L set to zero; as features are centred, their other entries
    # in row i add up to −K_ii and −L_ii.
    n = len(ours_NF)
    ours_N, theirs_N = (x.square().sum(1) for x in (ours_NF, theirs_NG))
    traces = ours_N.sum() * theirs_N.sum()
    return product - n / (n - 2) * (ours_N @ theirs_N) + traces / ((n - 1) * (n - 2))


@final
class LinearCKA(FeatureMeasure):
    """How alike the features are to those of the pretrained network [0]; 1 before training."""

    summary: ClassVar[str] = "likeness of the features to the pretrained network's (linear CKA)"
    looks_back: ClassVar[bool] = True

    debiased: bool = Field(
        True, description="the estimate without bias: of few images, the plain one is near 1"
    )

    def score(self, look: Look) -> float:
        """See :meth:`FeatureMeasure.score`; an estimate below 0 is 0.

        Raises:
            ClbenchError: if there are fewer than four images, or too many of them are alike to the
                pretrained network, of which training changes nothing.
        """
        if why := self.lacks(len(look.features_NF), 0):
            raise ClbenchError(f"retention: {why}")
        assert look.before_NF is not None
        before_NF = look.before_NF.to(look.features_NF.device)
        if linear_cka(before_NF, before_NF, self.debiased) == 0:
            raise ClbenchError(
                f"retention: cka tells nothing of {len(before_NF)} images, which the pretrained "
                "network hardly tells apart: add other images, or leave it out of "
                "retention.measures"
            )
        found = linear_cka(look.features_NF, before_NF, self.debiased)
        return min(1.0, max(0.0, found))

    def lacks(self, images: int, references: int) -> str:
        """See :meth:`FeatureMeasure.lacks`."""
        if images >= LEAST:
            return ""
        return f"cka needs {LEAST} images, and there are {images}: add images, or leave it out"
