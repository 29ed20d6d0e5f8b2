"""More data sets that are read as arrays, from torchvision: STL-10, FER2013, EMNIST and KMNIST."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torchvision import datasets as tv

from clbench.data.datasets.arrays import IDX_CONTENTS, idx
from clbench.data.datasets.base import DataSet, Labelled, Source, from_torchvision, labelled
from clbench.data.datasets.sizes import as_published

STL10 = Source(
    "STL-10",
    "https://cs.stanford.edu/~acoates/stl10/",
    "stl10_binary",
    "all files of stl10_binary.tar.gz, unchanged",
    True,
)
FER2013 = Source(
    "FER2013",
    "https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-"
    "challenge",
    "fer2013",
    "fer2013.csv or icml_face_data.csv, unchanged (train.csv and test.csv have no test labels)",
    False,
)
FACES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
EMNIST = Source(
    "EMNIST (digits)",
    "https://www.nist.gov/itl/products-and-services/emnist-dataset (gzip.zip)",
    "EMNIST/raw",
    "emnist-digits-train-images-idx3-ubyte and -labels-idx1-ubyte, the same for test, or gzip.zip",
    True,
)
KMNIST = Source("KMNIST", "https://github.com/rois-codh/kmnist", "KMNIST/raw", IDX_CONTENTS, True)


def stl10(root: Path, download: bool) -> DataSet:
    """STL-10: 5,000 training and 8,000 test images, (N, 96, 96, 3), 10 classes.

    Source: Coates, Lee and Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature
    Learning", AISTATS 2011; official split, without its unlabelled images.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    archives = [(root / tv.STL10.filename, tv.STL10.tgz_md5)]
    parts: list[Labelled] = []
    classes: tuple[str, ...] = ()
    for title, split in (("training", "train"), ("test", "test")):
        found = from_torchvision(STL10, root, download, tv.STL10, archives, split=split)
        classes = tuple(getattr(found, "classes", ()))
        if not classes:
            raise STL10.missing(root, f"{root / STL10.folder} has no class_names.txt")
        images = found.data.transpose(0, 2, 3, 1)
        parts.append(labelled(STL10, title, images, found.labels, len(classes)))
    return as_published(DataSet("stl10", parts[0], parts[1], classes), STL10, root)


def fer2013(root: Path, download: bool) -> DataSet:
    """FER2013: 28,709 training and 7,178 test images of faces, (N, 48, 48), 7 expressions.

    Source: Goodfellow et al., "Challenges in Representation Learning", ICONIP 2013; official split,
    public and private test part together.

    Args:
        root: the data root.
        download: without effect, Kaggle asks for an account.

    Raises:
        ClbenchError: files absent, damaged or without labels.
    """
    make: Callable[..., Any] = lambda place, download, **about: tv.FER2013(place, **about)  # noqa: E731
    parts = []
    for title, split in (("training", "train"), ("test", "test")):
        found = from_torchvision(FER2013, root, False, make, [], split=split)._samples
        if not found or found[0][1] is None:
            raise FER2013.missing(root, f"the {title} part has no labels")
        images = np.stack([image.numpy() for image, _ in found])
        parts.append(labelled(FER2013, title, images, [label for _, label in found], len(FACES)))
    return as_published(DataSet("fer2013", parts[0], parts[1], FACES), FER2013, root)


def emnist_digits(root: Path, download: bool) -> DataSet:
    """EMNIST's digits: 240,000 training and 40,000 test images, (N, 28, 28), 10 classes.

    Source: Cohen, Afshar, Tapson and van Schaik, "EMNIST: an Extension of MNIST to Handwritten
    Letters", 2017; official split. As in its files, and with torchvision, images lie on their side:
    rows and columns are exchanged.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    archives = [(root / EMNIST.folder / "gzip.zip", tv.EMNIST.md5)]
    parts = []
    for title, train in (("training", True), ("test", False)):
        found = from_torchvision(
            EMNIST, root, download, tv.EMNIST, archives, split="digits", train=train
        )
        parts.append(labelled(EMNIST, title, found.data.numpy(), found.targets.numpy(), 10))
    classes = tuple(tv.EMNIST.classes_split_dict["digits"])
    return as_published(DataSet("emnist_digits", parts[0], parts[1], classes), EMNIST, root)


def kmnist(root: Path, download: bool) -> DataSet:
    """KMNIST: 60,000 training and 10,000 test images of cursive Japanese, (N, 28, 28), 10 classes.

    Source: Clanuwat et al., "Deep Learning for Classical Japanese Literature", 2018; official
    split.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    return idx("kmnist", tv.KMNIST, KMNIST, root, download)
