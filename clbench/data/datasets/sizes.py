"""The sizes of the data sets, for plans about data that is not there yet.

The figures are those of ``data/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clbench.data.datasets.base import DataSet, Labelled, Source
from clbench.data.words import note


@dataclass(frozen=True)
class Size:
    """How large a data set is.

    Attributes:
        classes: how many.
        train, test: numbers of images.
        shape: of an image as an array; None for image files.
        disk: bytes of its files, the archives they come in included.
        drawn: whether the parts are drawn here or by nobody known, so that only their sum counts.
        tested: how many of the classes the test images have, if not all.
    """

    classes: int
    train: int
    test: int
    shape: tuple[int, ...] | None
    disk: int
    drawn: bool = False
    tested: int | None = None


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
    "tiny_imagenet": Size(200, 100_000, 10_000, None, 500 * MB),
    "cub200": Size(200, 5994, 5794, None, 2400 * MB),
    "cub200_pilot": Size(200, 9430, 2358, None, 1200 * MB),
    "imagenet_r": Size(200, 24_000, 6000, None, 4400 * MB),
    "imagenet_r_pilot": Size(200, 24_000, 6000, None, 2200 * MB),
    "imagenet_a": Size(200, 5981, 1519, None, 700 * MB),
    # Of the next three the size on disk is not known: 100 kB an image.
    "objectnet": Size(200, 26_509, 6628, None, 3310 * MB),
    "omnibenchmark": Size(300, 89_697, 5985, None, 9570 * MB),
    "vtab": Size(50, 1796, 8619, None, 1040 * MB),
    "core50": Size(50, 119_894, 44_972, None, 4500 * MB),
    "core50_sessions": Size(400, 119_894, 44_972, None, 4500 * MB, tested=50),
    "office_home": Size(4 * 65, 12_574, 3014, None, 1200 * MB, drawn=True),
    "domainnet": Size(6 * 345, 409_832, 176_743, None, 18_000 * MB),
    "fgvc_aircraft": Size(100, 6667, 3333, None, 5500 * MB),
    "dtd": Size(47, 3760, 1880, None, 1200 * MB),
    "eurosat": Size(10, 21_600, 5400, None, 200 * MB),
    "oxford_pets": Size(37, 3680, 3669, None, 1600 * MB),
    "sun397": Size(397, 19_850, 19_850, None, 37_000 * MB),
    "svhn": Size(10, 73_257, 26_032, (32, 32, 3), 246 * MB),
    "notmnist": Size(10, 16_851, 1873, None, 40 * MB, drawn=True),
    "gtsrb": Size(43, 26_640, 12_630, None, 750 * MB),
    "resisc45": Size(45, 18_900, 6300, None, 850 * MB),
    "stl10": Size(10, 5000, 8000, (96, 96, 3), 5800 * MB),
    "pcam": Size(2, 262_144, 32_768, None, 15_000 * MB),
    "fer2013": Size(7, 28_709, 7178, (48, 48), 300 * MB),
    "emnist_digits": Size(10, 240_000, 40_000, (28, 28), 2300 * MB),
    "kmnist": Size(10, 60_000, 10_000, (28, 28), 76 * MB),
    "rendered_sst2": Size(2, 6920, 1821, None, 280 * MB),
    "eurosat_splits": Size(10, 21_600, 2700, None, 100 * MB),
}


def stand_in(name: str) -> DataSet:
    """A data set of the right size without images: black arrays, or paths that lead nowhere.

    Classes are as nearly equal in size as the numbers allow, which few of the real ones are.

    Args:
        name: one of ``SIZES``.
    """
    size = SIZES[name]

    def part(count: int, classes: int) -> Labelled:
        labels = np.arange(count, dtype=np.int64) % classes
        if size.shape is None:
            return Labelled((Path(f"{name}.jpg"),) * count, labels)
        # A view of a single number: no memory is taken.
        return Labelled(np.broadcast_to(np.uint8(0), (count, *size.shape)), labels)

    classes = tuple(str(label) for label in range(size.classes))
    test = part(size.test, size.tested or size.classes)
    return DataSet(name, part(size.train, size.classes), test, classes, stand_in=True)


def as_published(data: DataSet, source: Source, root: Path) -> DataSet:
    """A data set, once it has as many classes as are known; says if images lack.

    Args:
        data: as it lies there.
        source: where it comes from.
        root: the data root.

    Raises:
        ClbenchError: another number of classes.
    """
    told = unlike_published(data)
    if len(data.classes) != SIZES[data.name].classes:
        raise source.missing(root, f"it {told}")
    if told:
        note(f"{source.title} in {root / source.folder} {told}")
    return data


def unlike_published(data: DataSet) -> str:
    """What numbers of classes and images differ from those that are known; "" if none does.

    >>> unlike_published(stand_in("digits"))
    ''
    """
    size = SIZES[data.name]
    if len(data.classes) != size.classes:
        return f"has {len(data.classes)} classes instead of {size.classes}"
    found, known = (len(data.train.images), len(data.test.images)), (size.train, size.test)
    if sum(found) == sum(known) and (size.drawn or found == known):
        return ""
    if size.drawn:
        return f"has {sum(found):,} images, not the {sum(known):,} that are known"
    return (
        f"has {found[0]:,} training and {found[1]:,} test images, not the {known[0]:,} and "
        f"{known[1]:,} that are known"
    )
