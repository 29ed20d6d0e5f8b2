"""Images whose folders mean nothing."""

from __future__ import annotations

from pathlib import Path

import torch

from clbench.data.datasets.walk import images_in
from clbench.data.images import FileImages, TensorImages
from clbench.data.words import expanded
from clbench.errors import ClbenchError

#: Images that are decoded at a time.
CHUNK = 64


def unlabelled(folder: Path, size: int, most: int) -> TensorImages:
    """Images of a folder and of all folders in it, decoded; the same ones whenever it is asked.

    Args:
        folder: of images.
        size: their side, in pixels: the centre square of the shorter side.
        most: of more, so many at equal distances in the order of their paths.

    Raises:
        ClbenchError: if there are none, or one cannot be read.
    """
    paths = images_in(expanded(folder))
    if not paths:
        raise ClbenchError(f"there is no image in {folder}: give a folder of images")
    count = min(most, len(paths))
    files = FileImages([paths[k * len(paths) // count] for k in range(count)], size, "crop")
    return TensorImages(torch.cat([files.take(p) for p in torch.arange(count).split(CHUNK)]))
