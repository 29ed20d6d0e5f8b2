"""timm's own way from an image to the pixels of an evaluation: that of its published accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform


@dataclass(frozen=True)
class TimmResize:
    """The transform that timm evaluates some weights with, but for the normalisation.

    Attributes:
        size: side of the square that comes out, in pixels.
        crop_pct: share of the shorter side that it keeps.
        crop_mode: as timm names it.
        interpolation: likewise.
    """

    size: int
    crop_pct: float
    crop_mode: str
    interpolation: str

    @classmethod
    def of(cls, pretrained_cfg: Mapping[str, Any]) -> TimmResize:
        """From what a timm model says of its weights (``pretrained_cfg``)."""
        config = resolve_data_config(pretrained_cfg=dict(pretrained_cfg))
        size = config["input_size"][-1]
        return cls(size, config["crop_pct"], config["crop_mode"], config["interpolation"])

    @cached_property
    def _compose(self) -> Any:
        # timm leaves normalisation to a prefetcher where there is one.
        return create_transform(
            (3, self.size, self.size),
            interpolation=self.interpolation,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            use_prefetcher=True,
        )

    def __call__(self, image: Image.Image) -> np.ndarray:
        """uint8 (size, size, 3), of an image in RGB and in its full size."""
        pixels: np.ndarray = self._compose(image).permute(1, 2, 0).numpy()
        return pixels

    def __str__(self) -> str:
        return f"timm_{self.interpolation}_{self.crop_mode}_{self.crop_pct:g}"
