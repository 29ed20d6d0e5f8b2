"""RandAugment on whole batches: each image has operations of its own, which its numbers choose.

[0] Cubuk et al., *RandAugment: practical automated data augmentation with a reduced search space*.
[1] torchvision's ``v2.RandAugment``, which gives all images of a batch the same operations. Its
    kernels are used here, with its operations and their strengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

#: Of magnitudes, from none to the strongest.
STRONGEST = 30


def _shear(images: Tensor, x: float, y: float) -> Tensor:
    shear = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return functional.affine(images, 0.0, [0, 0], 1.0, shear, center=[0, 0])


def _shift(images: Tensor, x: float, y: float) -> Tensor:
    return functional.affine(images, 0.0, [int(x), int(y)], 1.0, [0.0, 0.0])


#: Names, whether the magnitude has a sign, and what is done to images uint8 (B, C, S, S) at a
#: magnitude in −1…1.
OPERATIONS: dict[str, tuple[bool, Callable[[Tensor, float], Tensor]]] = {
    "Identity": (False, lambda images, m: images),
    "ShearX": (True, lambda images, m: _shear(images, 0.3 * m, 0.0)),
    "ShearY": (True, lambda images, m: _shear(images, 0.0, 0.3 * m)),
    "TranslateX": (True, lambda images, m: _shift(images, 150 / 331 * images.shape[-1] * m, 0)),
    "TranslateY": (True, lambda images, m: _shift(images, 0, 150 / 331 * images.shape[-2] * m)),
    "Rotate": (True, lambda images, m: functional.rotate(images, 30 * m)),
    "Brightness": (True, lambda images, m: functional.adjust_brightness(images, 1 + 0.9 * m)),
    "Color": (True, lambda images, m: functional.adjust_saturation(images, 1 + 0.9 * m)),
    "Contrast": (True, lambda images, m: functional.adjust_contrast(images, 1 + 0.9 * m)),
    "Sharpness": (True, lambda images, m: functional.adjust_sharpness(images, 1 + 0.9 * m)),
    "Posterize": (False, lambda images, m: functional.posterize(images, round(8 - 4 * m))),
    "Solarize": (False, lambda images, m: functional.solarize(images, 255 * (1 - m))),
    "AutoContrast": (False, lambda images, m: functional.autocontrast(images)),
    "Equalize": (False, lambda images, m: functional.equalize(images)),
}


def randaugment(images: Tensor, magnitude: int, draws: Tensor) -> Tensor:
    """Images after some operations each, one after the other.

    Args:
        images: uint8 (B, C, S, S).
        magnitude: of all operations, 0…30.
        draws: uniform numbers in [0, 1), (B, 2·operations): which one, and its sign.

    Returns:
        uint8 (B, C, S, S).
    """
    kinds = list(OPERATIONS.values())
    for which, sign in zip(draws[:, 0::2].unbind(1), draws[:, 1::2].unbind(1), strict=True):
        signed = torch.tensor([kind[0] for kind in kinds], device=draws.device)
        number = (which * len(kinds)).long()
        choice = 2 * number + (signed[number] & (sign < 0.5))
        done = images.clone()
        for code in choice.unique().tolist():
            chosen = (choice == code).nonzero().squeeze(1)
            strength = (-1 if code % 2 else 1) * magnitude / STRONGEST
            done[chosen] = kinds[code // 2][1](images[chosen], strength)
        images = done
    return images
