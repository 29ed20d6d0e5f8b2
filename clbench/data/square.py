"""An image scaled to a square, by Pillow or, in half of the time and nearly the same, by torch."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

Fit = Literal["crop", "squash", "crop-torch", "squash-torch"]
#: Of how many times its shorter side the longer one is looked at, about the centre.
LONGEST = 16


def square(image: Image.Image, size: int, fit: Fit) -> np.ndarray:
    """An image in RGB as uint8 (size, size, 3), scaled with a bicubic antialiasing filter.

    Args:
        image: of any shape.
        size: side of the square in pixels.
        fit: ``crop`` scales the shorter side and cuts the centre square, ``squash`` scales both
            sides. By torch, whose coefficients have fewer digits, single values differ by 1 or 2.
    """
    if fit.startswith("squash"):
        return _scaled(image, size, size, fit)
    # A strip of pixels would be blown up to gigabytes before its centre is cut out.
    most = LONGEST * min(image.size)
    if max(image.size) > most:
        width, height = (min(side, most) for side in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return _scaled(image, width, height, fit)[top : top + size, left : left + size]


def _scaled(image: Image.Image, width: int, height: int, fit: Fit) -> np.ndarray:
    if not fit.endswith("torch"):
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    # As they lie, colours last: so its fast kernel for bytes takes them.
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    scaled = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    return scaled[0].permute(1, 2, 0).numpy()
