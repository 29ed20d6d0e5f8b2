"""Data sets of image files that torchvision downloads: Food-101, Flowers-102, Caltech-101."""

import hashlib
from pathlib import Path

from torchvision import datasets as tv
from torchvision.datasets.folder import IMG_EXTENSIONS

from clbench.data.datasets.base import (
    DataSet,
    Source,
    from_torchvision,
    labelled,
    require_files,
)

FOOD101 = Source(
    "Food-101",
    "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    "food-101",
    "meta/train.json, meta/test.json and images/<class>/*.jpg",
    True,
)
FLOWERS102 = Source(
    "Oxford 102 Flowers",
    "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    "flowers-102",
    "setid.mat and imagelabels.mat, unchanged, and jpg/image_*.jpg",
    True,
)
CALTECH101 = Source(
    "Caltech-101",
    "https://data.caltech.edu/records/mzrjq-6wc02",
    "caltech101",
    "101_ObjectCategories/<class>/image_*.jpg",
    True,
)
CALTECH101_CLASSES = 101
CALTECH101_TRAIN = 30


def food101(root: Path, download: bool) -> DataSet:
    """Food-101: 101 dishes, 750 training and 250 test images each.

    Source: Bossard, Guillaumin and Van Gool, "Food-101: Mining Discriminative Components with
    Random Forests", ECCV 2014; official split.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    archives = [(root / "food-101.tar.gz", tv.Food101._MD5)]
    train, test = (
        from_torchvision(FOOD101, root, download, tv.Food101, archives, split=split)
        for split in ("train", "test")
    )
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise FOOD101.disagree(f"meta/train.json or meta/test.json lacks {', '.join(odd)}")
    require_files(FOOD101, root, [*train._image_files, *test._image_files])
    count = len(train.classes)
    return DataSet(
        "food101",
        labelled(FOOD101, "training", train._image_files, train._labels, count),
        labelled(FOOD101, "test", test._image_files, test._labels, count),
        tuple(train.classes),
    )


def flowers102(root: Path, download: bool) -> DataSet:
    """Oxford 102 Flowers: 2,040 training (official train + val) and 6,149 test images.

    Source: Nilsback and Zisserman, "Automated Flower Classification over a Large Number of
    Classes", ICVGIP 2008; official split, 10 + 10 training images a class.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    folder = root / FLOWERS102.folder
    archives = [(folder / file, md5) for file, md5 in tv.Flowers102._file_dict.values()]
    train, val, test = (
        from_torchvision(FLOWERS102, root, download, tv.Flowers102, archives, split=split)
        for split in ("train", "val", "test")
    )
    fitting = train._image_files + val._image_files
    require_files(FLOWERS102, root, [*fitting, *test._image_files])
    classes = tuple(tv.Flowers102.classes)
    return DataSet(
        "flowers102",
        labelled(FLOWERS102, "training", fitting, train._labels + val._labels, len(classes)),
        labelled(FLOWERS102, "test", test._image_files, test._labels, len(classes)),
        classes,
    )


def caltech101(root: Path, download: bool) -> DataSet:
    """Caltech-101: 101 classes of 31 to 800 images; BACKGROUND_Google is left out.

    Source: Fei-Fei, Fergus and Perona, "Learning Generative Visual Models from Few Training
    Examples", CVPR Workshop 2004. There is no official split. As is usual, 30 images of each
    class are for training and the rest for testing. The draw is fixed: the 30 images whose
    "<class>/<file name>" have the smallest SHA-256 digests.

    Raises:
        ClbenchError: files absent, incomplete or not to be downloaded.
    """
    categories = root / CALTECH101.folder / "101_ObjectCategories"
    # torchvision's class leaves a new folder behind even where it may not download, and counts
    # stray files as images; so it only fetches, and the folders are listed here.
    if not categories.is_dir():
        if not download:
            raise CALTECH101.missing(root)
        from_torchvision(CALTECH101, root, True, tv.Caltech101, [])
    names = sorted(
        path.name for path in categories.iterdir() if path.is_dir() and path.name[0] != "."
    )
    classes = tuple(name for name in names if name != "BACKGROUND_Google")
    if len(classes) != CALTECH101_CLASSES:
        raise CALTECH101.missing(
            root, f"{len(classes)} class folders instead of {CALTECH101_CLASSES}"
        )
    train: list[Path] = []
    test: list[Path] = []
    train_labels: list[int] = []
    test_labels: list[int] = []
    for label, name in enumerate(classes):
        chosen, rest = _caltech_draw(root, categories / name)
        train += chosen
        test += rest
        train_labels += [label] * len(chosen)
        test_labels += [label] * len(rest)
    return DataSet(
        "caltech101",
        labelled(CALTECH101, "training", train, train_labels, len(classes)),
        labelled(CALTECH101, "test", test, test_labels, len(classes)),
        classes,
    )


def _caltech_draw(root: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """The 30 training images of a class folder and the rest, both sorted by name."""
    images = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMG_EXTENSIONS
        and path.name[0] != "."  # of macOS: ._image_0001.jpg
    )
    if len(images) <= CALTECH101_TRAIN:
        reason = f"{folder} has {len(images)} images, every class has at least 31"
        raise CALTECH101.missing(root, reason)
    drawn = sorted(
        images,
        key=lambda path: hashlib.sha256(f"{folder.name}/{path.name}".encode()).digest(),
    )
    return sorted(drawn[:CALTECH101_TRAIN]), sorted(drawn[CALTECH101_TRAIN:])
