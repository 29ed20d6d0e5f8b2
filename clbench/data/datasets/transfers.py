"""More data sets that torchvision downloads: Aircraft, DTD, EuroSAT, Pets and SVHN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torchvision import datasets as tv

from clbench.data.datasets.base import (
    DataSet,
    Labelled,
    Source,
    every_fifth,
    from_torchvision,
    labelled,
    require_files,
)
from clbench.data.datasets.packed import class_folders, divided
from clbench.data.datasets.sizes import as_published

AIRCRAFT = Source(
    "FGVC-Aircraft",
    "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
    "fgvc-aircraft-2013b",
    "data/variants.txt, data/images_variant_trainval.txt, data/images_variant_test.txt and "
    "data/images/*.jpg",
    True,
)
DTD = Source(
    "DTD",
    "https://www.robots.ox.ac.uk/~vgg/data/dtd/ (dtd-r1.0.1.tar.gz)",
    "dtd/dtd",
    "labels/train1.txt, labels/val1.txt, labels/test1.txt and images/<class>/*.jpg",
    True,
)
EUROSAT = Source(
    "EuroSAT",
    "https://github.com/phelber/EuroSAT (EuroSAT.zip, RGB)",
    "eurosat",
    "2750/<class>/*.jpg",
    True,
)
PETS = Source(
    "Oxford-IIIT Pet",
    "https://www.robots.ox.ac.uk/~vgg/data/pets/",
    "oxford-iiit-pet",
    "annotations/trainval.txt, annotations/test.txt and images/*.jpg",
    True,
)
SVHN = Source(
    "SVHN",
    "http://ufldl.stanford.edu/housenumbers/ (format 2)",
    "svhn",
    "train_32x32.mat and test_32x32.mat, unchanged",
    True,
)


def fgvc_aircraft(root: Path, download: bool) -> DataSet:
    """FGVC-Aircraft: 100 variants, 6,667 training (official train + val) and 3,333 test images.

    Source: Maji et al., "Fine-Grained Visual Classification of Aircraft", 2013; official split.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    parts = [
        from_torchvision(AIRCRAFT, root, download, tv.FGVCAircraft, [], split=split)
        for split in ("trainval", "test")
    ]
    files = [[Path(file) for file in part._image_files] for part in parts]
    labels = [part._labels for part in parts]
    return _of_files("fgvc_aircraft", AIRCRAFT, root, files, labels, parts[0].classes)


def dtd(root: Path, download: bool) -> DataSet:
    """DTD: 47 textures, 3,760 training (official train + val) and 1,880 test images.

    Source: Cimpoi et al., "Describing Textures in the Wild", CVPR 2014; the first of its ten
    official partitions.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    archives = [(root / "dtd" / "dtd-r1.0.1.tar.gz", tv.DTD._MD5)]
    train, val, test = (
        from_torchvision(DTD, root, download, tv.DTD, archives, split=split)
        for split in ("train", "val", "test")
    )
    if not train.classes == val.classes == test.classes:
        raise DTD.disagree("labels/train1.txt, val1.txt and test1.txt have different classes")
    files = [train._image_files + val._image_files, test._image_files]
    labels = [train._labels + val._labels, test._labels]
    return _of_files("dtd", DTD, root, files, labels, train.classes)


def oxford_pets(root: Path, download: bool) -> DataSet:
    """Oxford-IIIT Pet: 37 breeds, 3,680 training and 3,669 test images.

    Source: Parkhi, Vedaldi, Zisserman and Jawahar, "Cats and Dogs", CVPR 2012; official split.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    folder = root / PETS.folder
    archives = [(folder / url.rpartition("/")[2], md5) for url, md5 in tv.OxfordIIITPet._RESOURCES]
    parts = [
        from_torchvision(PETS, root, download, tv.OxfordIIITPet, archives, split=split)
        for split in ("trainval", "test")
    ]
    files, labels = [part._images for part in parts], [part._labels for part in parts]
    return _of_files("oxford_pets", PETS, root, files, labels, parts[0].classes)


def eurosat(root: Path, download: bool) -> DataSet:
    """EuroSAT: 10 kinds of land use, 27,000 satellite images of 64 x 64 pixels.

    Source: Helber, Bischke, Dengel and Borth, "EuroSAT: A Novel Dataset and Deep Learning
    Benchmark for Land Use and Land Cover Classification", 2019. There is no official split: every
    fifth image of each class, in the order of the sorted names, is a test image.

    Raises:
        ClbenchError: files absent, damaged or not to be downloaded.
    """
    folder = root / EUROSAT.folder / "2750"
    if not folder.is_dir():
        from_torchvision(EUROSAT, root, download, tv.EuroSAT, [])
    found = class_folders(EUROSAT, root, folder)
    paths = [path for images in found.images for path in images]
    labels = np.repeat(np.arange(len(found.images)), [len(images) for images in found.images])
    parts = divided(paths, labels, every_fifth(labels))
    return as_published(DataSet("eurosat", *parts, found.classes), EUROSAT, root)


def svhn(root: Path, download: bool) -> DataSet:
    """SVHN: 73,257 training and 26,032 test images of house numbers, (N, 32, 32, 3), 10 classes.

    Source: Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning",
    NIPS workshop 2011; official split, without its extra images.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    folder = root / SVHN.folder
    parts: list[Labelled] = []
    for title, split in (("training", "train"), ("test", "test")):
        _, file, md5 = tv.SVHN.split_list[split]
        make: Callable[..., Any] = lambda _, **about: tv.SVHN(folder, **about)  # noqa: E731
        found = from_torchvision(SVHN, root, download, make, [(folder / file, md5)], split=split)
        images = found.data.transpose(0, 2, 3, 1)
        parts.append(labelled(SVHN, title, images, np.atleast_1d(found.labels), 10))
    classes = tuple(str(digit) for digit in range(10))
    return as_published(DataSet("svhn", parts[0], parts[1], classes), SVHN, root)


def _of_files(
    name: str,
    source: Source,
    root: Path,
    files: Sequence[Sequence[Path]],
    labels: Sequence[Sequence[int]],
    classes: Sequence[str],
) -> DataSet:
    """A data set of the image files and labels of its training and test part."""
    require_files(source, root, [*files[0], *files[1]])
    train, test = (
        labelled(source, title, part, numbers, len(classes))
        for title, part, numbers in zip(("training", "test"), files, labels, strict=True)
    )
    return as_published(DataSet(name, train, test, tuple(classes)), source, root)
