"""Mixup and CutMix: each image of a global batch is mixed with another one of it.

Which, and how much, is drawn for the global batch, so that it is the same on any number of
processes: a process fetches the images that its own are mixed with.

[0] Zhang et al., *mixup: beyond empirical risk minimization*.
[1] Yun et al., *CutMix: regularization strategy to train strong classifiers with localizable
    features*.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clbench.data.sending import sent
from clbench.seeding import derive


class Partners(NamedTuple):
    """What the images of a batch are mixed with.

    Attributes:
        images: uint8 (B, C, S, S), as stored.
        labels: int64 (B,), global labels.
        draws: float32 (B, DRAWS), the numbers that fix their augmentation.
        kept: share λ of an image's own in the mixture, 0…1.
        centre: of the box that a partner fills, from the top and from the left in shares of the
            side; None where images are blended.
    """

    images: Tensor
    labels: Tensor
    draws: Tensor
    kept: float
    centre: tuple[float, float] | None

    def to(self, device: torch.device) -> Partners:
        """The same on a device."""
        images, labels, draws = (sent(x, device) for x in self[:3])
        return Partners(images, labels, draws, self.kept, self.centre)


class Mixer:
    """Draws the mixtures of one global batch after another; one law for all images of a batch.

    Args:
        mixup: α of Beta(α, α) for blends; 0: none.
        cutmix: α for boxes; 0: none. With both, each batch gets one or the other by a fair coin.
        keys: what the draws depend on.
    """

    def __init__(self, mixup: float, cutmix: float, *keys: int) -> None:
        self.mixup, self.cutmix = mixup, cutmix
        self.random = np.random.default_rng(derive(*keys))

    def next(self, count: int) -> tuple[Tensor, float, tuple[float, float] | None]:
        """For a batch of ``count``: each sample's partner, λ, and the centre of the box."""
        coin, y, x = self.random.random(3).tolist()
        boxes = bool(self.cutmix) and (not self.mixup or coin < 0.5)
        alpha = self.cutmix if boxes else self.mixup
        kept = float(self.random.beta(alpha, alpha))
        order = torch.from_numpy(self.random.permutation(count))
        return order, kept, (y, x) if boxes else None


def box_of(kept: float, centre: tuple[float, float], size: int) -> tuple[slice, slice]:
    """Rows and columns of the box that a partner fills, of a share 1 − λ where it fits [1].

    Args:
        kept: λ.
        centre: of the box, in shares of the side.
        size: of the image, in pixels.
    """
    half = size * float(np.sqrt(1 - kept)) / 2
    spans = [(int(size * c - half + 0.5), int(size * c + half + 0.5)) for c in centre]
    rows, columns = (slice(max(0, a), min(size, b)) for a, b in spans)
    return rows, columns


def mix_inputs(inputs: Tensor, others: Tensor, partners: Partners) -> tuple[Tensor, float]:
    """The mixture of inputs (B, C, S, S) with those of their partners, and its true λ."""
    if partners.centre is None:
        return torch.lerp(others, inputs, partners.kept), partners.kept
    size = inputs.shape[-1]
    rows, columns = box_of(partners.kept, partners.centre, size)
    mixed = inputs.clone()
    mixed[..., rows, columns] = others[..., rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - area / size**2
