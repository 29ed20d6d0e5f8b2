"""Images sorted into one folder a class: the user's own sets and ImageNet's validation part."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from timm.data.imagenet_info import ImageNetInfo

from clbench.data.datasets.base import DataSet, Labelled, every_fifth
from clbench.data.datasets.walk import listing, refuse_misplaced
from clbench.data.words import expanded, few, spelt
from clbench.errors import ClbenchError

IMAGENET_HINT = (
    "it must hold folders named by WordNet id, such as n01440764; see "
    "https://www.image-net.org/challenges/LSVRC/2012/"
)


class ClassFolders(NamedTuple):
    """What lies in a folder of class folders.

    Attributes:
        paths: N images.
        labels: (N,) int64, positions among the classes.
        classes: K names, sorted.
    """

    paths: tuple[Path, ...]
    labels: np.ndarray
    classes: tuple[str, ...]


def image_folder(train: Path, test: Path | None) -> DataSet:
    """The user's own images, one folder a class: `train/<class>/…/<image>`.

    The layout is torchvision's `ImageFolder`: classes are numbered in the order of their sorted
    names, and a class's images may lie in folders further down. Without a test folder every fifth
    image of each class, in the order of the sorted paths, is held out for testing. What is no
    image of a class is passed over, in a line that says so.

    Args:
        train: folder of the training images.
        test: folder of the test images with the same class folders, or None.

    Returns:
        The paths of the images, not yet opened.

    Raises:
        ClbenchError: a folder is missing or has no class folders, a class folder has no images,
            the two folders are one or have different classes, or, without a test folder, a class
            has fewer than five images.
    """
    train = expanded(train)
    paths, labels, classes = read_class_folders(train, "stream.train")
    if test is None:
        return _hold_out(paths, labels, classes, train)
    test = expanded(test)
    if os.path.exists(test) and os.path.samefile(train, test):
        raise ClbenchError(
            f"{spelt(train)} is given for training and for testing: give a folder of other images "
            "as stream.test, or leave it out to hold every fifth image out"
        )
    hint = (
        "it must hold the class folders of stream.train; leave stream.test out to hold every fifth "
        "image out"
    )
    test_paths, test_labels, test_classes = read_class_folders(test, "stream.test", hint)
    if classes != test_classes:
        raise ClbenchError(
            f"the training and test folders have different classes: only in {spelt(train)}: "
            f"{few(sorted(set(classes) - set(test_classes)))}; only in {spelt(test)}: "
            f"{few(sorted(set(test_classes) - set(classes)))}; give both folders the same class "
            "folders"
        )
    return DataSet(
        "image_folder", Labelled(paths, labels), Labelled(test_paths, test_labels), classes
    )


def imagenet_validation(root: Path) -> Labelled:
    """ImageNet-1k validation images of any of its classes, `root/<wnid>/*.JPEG`.

    Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 115(3),
    2015, https://arxiv.org/abs/1409.0575.

    Args:
        root: folder with one folder a class, named by its WordNet id such as n01440764.

    Returns:
        The paths of the images and their labels, the classes' indices 0 … 999 in ImageNet-1k,
        whatever subset of the classes is there.

    Raises:
        ClbenchError: the folder is missing, a folder in it is not named by the WordNet id of an
            ImageNet-1k class, or a class folder has no images.
    """
    paths, positions, names = read_class_folders(expanded(root), "retention.data", IMAGENET_HINT)
    refuse_others(root, names)
    classes = imagenet_classes(names) or ()
    return Labelled(paths, np.array(classes, dtype=np.int64)[positions])


def imagenet_classes(names: Sequence[str]) -> tuple[int, ...] | None:
    """The indices in ImageNet-1k of folders named by WordNet id, or, as those of ImageNet-V2 are,
    by all the indices; None if one of them is no such class.

    >>> imagenet_classes(["n01443537", "n01440764"]), imagenet_classes(["0", "1"])
    ((1, 0), None)
    """
    index = {name: number for number, name in enumerate(imagenet_synsets())}
    by_number = {str(number): number for number in range(len(index))}
    if by_number.keys() == {*names}:  # all of them: a user's folder may well be called 7
        index = by_number
    found = [index.get(name) for name in names]
    return None if None in found else tuple(number for number in found if number is not None)


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """The WordNet ids of ImageNet-1k's classes, in their order."""
    return tuple(ImageNetInfo("imagenet-1k").label_names())


def refuse_others(root: Path, names: Sequence[str]) -> None:
    """Refuse folders that are not ImageNet-1k classes.

    Raises:
        ClbenchError: naming them.
    """
    if imagenet_classes(names) is None:
        unknown = {*names} - {*imagenet_synsets()}
        raise ClbenchError(
            f"{spelt(root)} has folders that are not ImageNet-1k classes: "
            f"{few(sorted(unknown))}; {IMAGENET_HINT}"
        )


def read_class_folders(
    root: Path, field: str, hint: str = "it must hold one folder of images a class"
) -> ClassFolders:
    """List a folder of class folders.

    Args:
        root: the folder.
        field: of the recipe, which names it.
        hint: what it must be.

    Raises:
        ClbenchError: if it is missing, has no class folders, or one of them has no images.
    """
    if not os.path.isdir(root):  # also False where a folder above cannot be read
        raise ClbenchError(
            f"the image folder {spelt(root)} does not exist or is not a folder; {hint}"
        )
    found = listing(root)
    if not found.classes:
        raise ClbenchError(f"the image folder {spelt(root)} has no class folders; {hint}")
    refuse_misplaced(root, found.classes, field)
    found.passed.tell(root)
    empty = [name for name, images in zip(found.classes, found.images, strict=True) if not images]
    if empty:
        raise ClbenchError(
            f"class folders without images in {spelt(root)}: {few(empty)}; "
            "add .jpg, .jpeg, .png or other image files to them, or remove them"
        )
    counts = [len(images) for images in found.images]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    paths = tuple(path for images in found.images for path in images)
    return ClassFolders(paths, labels, found.classes)


def _hold_out(
    paths: tuple[Path, ...], labels: np.ndarray, classes: tuple[str, ...], root: Path
) -> DataSet:
    """Split one folder's images into training and test parts."""
    small = [name for name, count in zip(classes, np.bincount(labels), strict=True) if count < 5]
    if small:
        raise ClbenchError(
            f"class folders of {spelt(root)} with fewer than 5 images, too few to hold a fifth out "
            f"for testing: {few(small)}; add images or give a test folder"
        )
    test = every_fifth(labels)

    def part(chosen: np.ndarray) -> Labelled:
        return Labelled(tuple(paths[i] for i in np.flatnonzero(chosen)), labels[chosen])

    return DataSet("image_folder", part(~test), part(test), classes)
