"""The sizes of the data sets, for plans about data that is not there yet.

The figures are those of ``data/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clbench.data.datasets.base import DataSet, Labelled


@dataclass(frozen=True)
class Size:
    """How large a data set is.

    Attributes:
        classes: how many.
        train, test: numbers of images.
        shape: of an image as an array; None for image files.
        disk: bytes of its files, the archives they come in included.
    """

    classes: int
    train: int
    test: int
    shape: tuple[int, ...] | None
    disk: int


MB = 10**6
SIZES = {
    "digits": Size(10, 1442, 355, (8, 8), 0),
    "mnist": Size(10, 60_000, 10_000, (28, 28), 67 * MB),
    "fashion_mnist": Size(10, 60_000, 10_000, (28, 28), 86 * MB),
    "cifar10": Size(10, 50_000, 10_000, (32, 32, 3), 357 * MB),
    "cifar100": Size(100, 50_000, 10_000, (32, 32, 3), 355 * MB),
    "food101": Size(101, 75_750, 25_250, None, 10_000 * MB),
    "flowers102": Size(102, 2040, 6149, None, 695 * MB),
    "caltech101": Size(101, 3030, 5647, None, 150 * MB),
    "stanford_cars": Size(196, 8144, 8041, None, 1900 * MB),
    "stanford_dogs": Size(120, 12_000, 8580, None, 800 * MB),
}


def stand_in(name: str) -> DataSet:
    """A data set of the right size without images: black arrays, or paths that lead nowhere.

    Classes are as nearly equal in size as the numbers allow, which few of the real ones are.

    Args:
        name: one of ``SIZES``.
    """
    size = SIZES[name]

    def part(count: int) -> Labelled:
        labels = np.arange(count, dtype=np.int64) % size.classes
        if size.shape is None:
            return Labelled((Path(f"{name}.jpg"),) * count, labels)
        # A view of a single number: no memory is taken.
        return Labelled(np.broadcast_to(np.uint8(0), (count, *size.shape)), labels)

    classes = tuple(str(label) for label in range(size.classes))
    return DataSet(name, part(size.train), part(size.test), classes)
