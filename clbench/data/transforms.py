"""From stored uint8 images to network input, for whole batches at a time.

Random choices are made per sample, from uniform numbers drawn beforehand: one row of
:data:`DRAWS` numbers a sample. Whoever draws them (:mod:`clbench.data.batches`) thereby fixes the
augmentation, on any number of processes and any device.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from clbench.seeding import more_draws
from clbench.settings import Section

#: Columns of the uniform numbers: flip, top, left, area, aspect, brightness, contrast, saturation.
DRAWS = 8


class Augment(Section):
    """Random changes of training images; the default changes nothing."""

    flip: bool = Field(False, description="mirror half of the images")
    crop: Literal["none", "pad", "random", "resized"] = Field(
        "none",
        description="pad: shift by up to `padding` pixels; random: a window of the stored image; "
        "resized: a window of random area and aspect",
    )
    padding: int = Field(4, ge=0, description="pixels of black border for crop: pad")
    scale: tuple[float, float] = Field(
        (0.08, 1.0), description="smallest and largest share of the area for crop: resized"
    )
    jitter: float = Field(
        0.0, ge=0, le=1, description="brightness, contrast and saturation vary by this factor"
    )

    randaugment: int = Field(
        0, ge=0, le=10, description="RandAugment: operations on each image, such as 2; 0: none"
    )
    magnitude: int = Field(9, ge=0, le=30, description="of RandAugment, 0 to 30")
    erasing: float = Field(
        0.0, ge=0, le=1, description="share of the images a random box of which is erased"
    )
    mixup: float = Field(
        0.0,
        ge=0,
        description="mixes each image with another of its batch: α of the Beta law of "
        "their shares, such as 0.8; 0: none",
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        description="puts a box of another image into each: α, such as 1; with mixup, "
        "each batch gets one or the other; 0: none",
    )

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with each other."""
        return bool(self.mixup or self.cutmix)

    @field_validator("scale")
    @classmethod
    def _shares_of_the_area(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError("must be two numbers 0 < smallest <= largest <= 1")
        return scale


class Transform:
    """Turns stored images into network input.

    Args:
        size: side of the network's input in pixels.
        mean: per-channel mean to subtract, in 0…1.
        std: per-channel standard deviation to divide by, in 0…1.
        augment: what changes at random in training.
    """

    def __init__(
        self, size: int, mean: tuple[float, ...], std: tuple[float, ...], augment: Augment
    ) -> None:
        self.size, self.augment = size, augment
        self.shift = -torch.tensor(mean).view(-1, 1, 1) / torch.tensor(std).view(-1, 1, 1)
        self.scale = 1 / (255 * torch.tensor(std).view(-1, 1, 1))
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def train(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augmented input.

        Args:
            images: uint8 (B, C, S, S).
            draws: uniform numbers in [0, 1), (B, DRAWS).

        Returns:
            float32 (B, 3, size, size).
        """
        rules = self.augment
        if rules.crop == "pad":
            images = crop(F.pad(images, [rules.padding] * 4), images.shape[-1], draws)
        elif rules.crop == "random" and images.shape[-1] > self.size:
            images = crop(images, self.size, draws)
        if rules.flip:
            images = flip(images, draws)
        if rules.crop == "resized":
            images = resized_crop(images, self.size, rules.scale, draws)
        if rules.randaugment:
            from clbench.data.randaugment import randaugment  # with torchvision's kernels

            numbers = more_draws(draws, 2 * rules.randaugment)
            images = randaugment(images.round().to(torch.uint8), rules.magnitude, numbers)
        if rules.jitter:
            images = jitter(images.float() / 255, rules.jitter, draws).mul_(255)
        inputs = self.test(images)
        if rules.erasing:
            inputs = erase(inputs, rules.erasing, more_draws(draws, 5, first=20))
        return inputs

    def test(self, images: Tensor) -> Tensor:
        """Input without augmentation: the centre, at the network's size.

        Args:
            images: uint8 or float32 in 0…255, (B, C, S, S). Larger than ``size``: the centre is
                cut out. Smaller: the image is enlarged (bicubic).

        Returns:
            float32 (B, 3, size, size).
        """
        stored = images.shape[-1]
        if stored > self.size:
            start = (stored - self.size) // 2
            images = images[..., start : start + self.size, start : start + self.size]
        pixels = images.float()
        if stored < self.size:
            pixels = F.interpolate(pixels, (self.size, self.size), mode="bicubic")
        if pixels.device not in self._constants:
            self._constants[pixels.device] = (
                self.scale.to(pixels.device),
                self.shift.to(pixels.device),
            )
        scale, shift = self._constants[pixels.device]
        return (pixels * scale).add_(shift)


def flip(images: Tensor, draws: Tensor) -> Tensor:
    """About half of the images mirrored, (B, C, H, W)."""
    count = len(images)
    chosen = torch.arange(count, device=images.device) + count * (draws[:, 0] < 0.5)
    # Whole images are copied from a pool: 2.5 times faster than torch.where, pixel by pixel.
    return torch.cat([images, images.flip(-1)]).index_select(0, chosen)


def crop(images: Tensor, size: int, draws: Tensor) -> Tensor:
    """A ``size`` × ``size`` window at a random place of each image, (B, C, S, S) → (B, C, s, s)."""
    count, channels, _, stored = images.shape
    top, left = (draws[:, 1:3] * (stored - size + 1)).long().unbind(1)
    lines = torch.arange(size, device=images.device)
    planes = torch.arange(count * channels, device=images.device).view(count, channels, 1) * stored
    starts = (planes + top.view(-1, 1, 1) + lines) * stored + left.view(-1, 1, 1)
    # Every run of `size` pixels as a row of a view, of which whole rows are copied.
    runs = images.reshape(-1).unfold(0, size, 1)
    return runs.index_select(0, starts.view(-1)).view(count, channels, size, size)


def resized_crop(images: Tensor, size: int, scale: tuple[float, float], draws: Tensor) -> Tensor:
    """A window of random area and aspect of each image, scaled to ``size`` × ``size``.

    Args:
        images: uint8 (B, C, S, S).
        size: side of the result in pixels.
        scale: smallest and largest share of the area. The aspect ratio is log-uniform in 3/4…4/3.
        draws: uniform numbers (B, DRAWS).

    Returns:
        float32 (B, C, size, size) in 0…255, bilinear.
    """
    area = scale[0] + (scale[1] - scale[0]) * draws[:, 3]
    aspect = torch.exp((2 * draws[:, 4] - 1) * math.log(4 / 3))
    width = (area * aspect).sqrt().clamp(max=1)
    height = (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 0, 2] = width, (1 - width) * (2 * draws[:, 2] - 1)
    theta[:, 1, 1], theta[:, 1, 2] = height, (1 - height) * (2 * draws[:, 1] - 1)
    grid = F.affine_grid(theta, [len(images), 1, size, size], align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def jitter(images: Tensor, strength: float, draws: Tensor) -> Tensor:
    """Vary brightness, contrast and saturation, in this order, each by 1 ± ``strength``.

    Args:
        images: float32 (B, C, H, W) in 0…1.
        strength: in 0…1.
        draws: uniform numbers (B, DRAWS).

    Returns:
        float32 (B, C, H, W) in 0…1.
    """
    factors = 1 + strength * (2 * draws[:, 5:8] - 1)
    brightness, contrast, saturation = factors.view(-1, 3, 1, 1, 1).unbind(1)
    images = (images * brightness).clamp_(0, 1)
    images = torch.lerp(_grey(images).mean((2, 3), keepdim=True), images, contrast).clamp_(0, 1)
    return torch.lerp(_grey(images), images, saturation).clamp_(0, 1)


def erase(inputs: Tensor, share: float, draws: Tensor) -> Tensor:
    """A box of about a ``share`` of the images set to 0, the mean.

    Its area is 2 % to a third of the image's, its aspect 0.3 to 3.3, as timm draws them.

    Args:
        inputs: float32 (B, C, S, S), normalised.
        share: of the images, 0…1.
        draws: uniform numbers (B, 5).
    """
    size = inputs.shape[-1]
    area = 0.02 + (1 / 3 - 0.02) * draws[:, 1]
    aspect = torch.exp((2 * draws[:, 2] - 1) * math.log(1 / 0.3))
    sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1)
    sides = (sides * size).round().clamp(1, size - 1)  # (B, 2)
    first = (draws[:, 3:5] * (size - sides + 1)).floor()
    at = torch.arange(size, device=inputs.device)
    inside = (at >= first[..., None]) & (at < (first + sides)[..., None])  # (B, 2, S)
    box = inside[:, 0, :, None] & inside[:, 1, None, :] & (draws[:, 0] < share)[:, None, None]
    return inputs.masked_fill(box[:, None], 0)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    return (images * _luma(images.device)).sum(1, keepdim=True)


@lru_cache
def _luma(device: torch.device) -> Tensor:
    """What the channels count for, (3, 1, 1); made once, as a GPU is waited for meanwhile."""
    return torch.tensor([0.299, 0.587, 0.114], device=device).view(3, 1, 1)
