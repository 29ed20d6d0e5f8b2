"""Data sets whose authors say in text files which image is what: read as they wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clbench.data.datasets.base import (
    DataSet,
    Labelled,
    Source,
    kind_and_reason,
    labelled,
    require_files,
)
from clbench.data.datasets.packed import class_folders
from clbench.data.datasets.sizes import as_published
from clbench.data.words import few

CUB200 = Source(
    "CUB-200-2011",
    "https://www.vision.caltech.edu/datasets/cub_200_2011/ (CUB_200_2011.tgz)",
    "CUB_200_2011",
    "classes.txt, images.txt, image_class_labels.txt, train_test_split.txt and "
    "images/<class>/*.jpg",
    False,
)
TINY_IMAGENET = Source(
    "Tiny-ImageNet",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "tiny-imagenet-200",
    "wnids.txt, train/<wnid>/images/*.JPEG, val/val_annotations.txt and val/images/*.JPEG, "
    "unchanged",
    False,
)
SUN397 = Source(
    "SUN397",
    "https://vision.princeton.edu/projects/2010/SUN/ (SUN397.tar.gz and Partitions.zip)",
    "SUN397",
    "ClassName.txt, <letter>/<class>/*.jpg, and Training_01.txt and Testing_01.txt of "
    "Partitions.zip",
    False,
)
DOMAINNET = Source(
    "DomainNet",
    "http://ai.bu.edu/M3SDA/ (the cleaned version: an archive and two lists for each domain)",
    "domainnet",
    "<domain>_train.txt, <domain>_test.txt and <domain>/<class>/ with the images for clipart, "
    "infograph, painting, quickdraw, real and sketch",
    False,
)
DOMAINNET_DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")


def cub200(root: Path, download: bool) -> DataSet:
    """CUB-200-2011: 200 kinds of birds, 5,994 training and 5,794 test images.

    Source: Wah, Branson, Welinder, Perona and Belongie, "The Caltech-UCSD Birds-200-2011 Dataset",
    California Institute of Technology, 2011; official split.

    Args:
        root: the data root.
        download: without effect, torchvision does not have this set.

    Raises:
        ClbenchError: files absent, unreadable or disagreeing.
    """
    folder = root / CUB200.folder

    def by_number(name: str) -> dict[str, str]:
        return dict(lines_of(CUB200, root, folder / name, 2))

    names, images = by_number("classes.txt"), by_number("images.txt")
    classes, split = by_number("image_class_labels.txt"), by_number("train_test_split.txt")
    if not images.keys() == classes.keys() == split.keys():
        raise CUB200.disagree(
            "images.txt, image_class_labels.txt and train_test_split.txt do not "
            "number the same images"
        )
    labels = {number: label for label, number in enumerate(names)}
    unknown = sorted(set(classes.values()) - labels.keys())
    if unknown:
        raise CUB200.disagree(f"classes.txt lacks the classes numbered {few(unknown)}")
    parts = []
    for part, mark in (("training", "1"), ("test", "0")):
        numbers = [number for number in images if split[number] == mark]
        paths = [folder / "images" / images[number] for number in numbers]
        require_files(CUB200, root, paths)
        found = [labels[classes[number]] for number in numbers]
        parts.append(labelled(CUB200, part, paths, found, len(names)))
    # "001.Black_footed_Albatross"
    birds = tuple(name.partition(".")[2] or name for name in names.values())
    return as_published(DataSet("cub200", parts[0], parts[1], birds), CUB200, root)


def tiny_imagenet(root: Path, download: bool) -> DataSet:
    """Tiny-ImageNet: 200 classes of ImageNet at 64 x 64 pixels, 100,000 training images.

    The labels of its test part were never published; as is usual, the 10,000 validation images are
    for testing. Classes are in the order of their sorted WordNet ids.

    Args:
        root: the data root.
        download: without effect, torchvision does not have this set.

    Raises:
        ClbenchError: files absent, unreadable or disagreeing.
    """
    folder = root / TINY_IMAGENET.folder
    listed = lines_of(TINY_IMAGENET, root, folder / "wnids.txt", 1)
    classes = tuple(sorted(wnid for (wnid,) in listed))
    label = {wnid: number for number, wnid in enumerate(classes)}
    train = class_folders(TINY_IMAGENET, root, folder / "train")
    if train.classes != classes:
        odd = sorted(set(train.classes) ^ set(classes))
        raise TINY_IMAGENET.disagree(f"only one of wnids.txt and train has {few(odd)}")
    paths = [path for images in train.images for path in images]
    labels = np.repeat(np.arange(len(classes)), [len(images) for images in train.images])
    # A row: file, wnid, and the corners of a box.
    rows = lines_of(TINY_IMAGENET, root, folder / "val" / "val_annotations.txt", 6)
    strange = sorted({row[1] for row in rows} - label.keys())
    if strange:
        raise TINY_IMAGENET.disagree(f"val_annotations.txt has {few(strange)}, wnids.txt has not")
    tests = [folder / "val" / "images" / row[0] for row in rows]
    require_files(TINY_IMAGENET, root, tests)
    made = DataSet(
        "tiny_imagenet",
        Labelled(tuple(paths), labels),
        labelled(TINY_IMAGENET, "test", tests, [label[row[1]] for row in rows], len(classes)),
        classes,
    )
    return as_published(made, TINY_IMAGENET, root)


def sun397(root: Path, download: bool) -> DataSet:
    """SUN397: 397 scenes, 19,850 training and 19,850 test images, 50 each of a class.

    Source: Xiao, Hays, Ehinger, Oliva and Torralba, "SUN Database: Large-scale Scene Recognition
    from Abbey to Zoo", CVPR 2010; the first of its ten official partitions.

    Args:
        root: the data root.
        download: without effect, torchvision does not have the partitions.

    Raises:
        ClbenchError: files absent, unreadable or disagreeing.
    """
    folder = root / SUN397.folder
    listed = lines_of(SUN397, root, folder / "ClassName.txt", 1)
    label = {name: number for number, (name,) in enumerate(listed)}
    parts = []
    for part, name in (("training", "Training_01.txt"), ("test", "Testing_01.txt")):
        files = [row[0] for row in lines_of(SUN397, root, folder / name, 1)]
        held = [file.rpartition("/")[0] for file in files]
        strange = sorted(set(held) - label.keys())
        if strange:
            raise SUN397.disagree(f"{name} has the classes {few(strange)}, ClassName.txt has not")
        paths = [folder / file.lstrip("/") for file in files]
        require_files(SUN397, root, paths)
        parts.append(labelled(SUN397, part, paths, [label[one] for one in held], len(label)))
    # "/a/abbey", "/a/apartment_building/outdoor"
    scenes = tuple(name[3:] for name in label)
    return as_published(DataSet("sun397", parts[0], parts[1], scenes), SUN397, root)


def domainnet(root: Path, download: bool) -> DataSet:
    """DomainNet: 345 kinds of objects in six domains, 409,832 training and 176,743 test images.

    Source: Peng et al., "Moment Matching for Multi-Source Domain Adaptation", ICCV 2019; official
    split of the cleaned version. Class c of domain d has the label K·d + c, with K classes.

    Args:
        root: the data root.
        download: without effect, torchvision does not have this set.

    Raises:
        ClbenchError: files absent, unreadable or disagreeing.
    """
    folder = root / DOMAINNET.folder
    called: dict[int, str] = {}
    parts = []
    for part in ("train", "test"):
        found: list[tuple[int, list[str], list[int]]] = []
        for number, domain in enumerate(DOMAINNET_DOMAINS):
            name = f"{domain}_{part}.txt"
            rows = lines_of(DOMAINNET, root, folder / name, 2)
            files, labels = [row[0] for row in rows], _numbers(name, [row[1] for row in rows])
            for file, label in zip(files, labels, strict=True):
                kind = Path(file).parent.name
                if called.setdefault(label, kind) != kind:
                    raise DOMAINNET.disagree(
                        f"label {label} stands for both {called[label]} and {kind} ({name})"
                    )
            found.append((number, files, labels))
        parts.append(found)
    count = len(called)
    if sorted(called) != list(range(count)):
        raise DOMAINNET.disagree(f"{count} labels do not count from 0 to {count - 1}")
    made = []
    for title, found in zip(("training", "test"), parts, strict=True):
        paths = [folder / file for _, files, _ in found for file in files]
        require_files(DOMAINNET, root, paths)
        joint = [number * count + label for number, _, labels in found for label in labels]
        made.append(labelled(DOMAINNET, title, paths, joint, count * len(DOMAINNET_DOMAINS)))
    classes = tuple(called[label] for label in range(count)) * len(DOMAINNET_DOMAINS)
    return as_published(DataSet("domainnet", made[0], made[1], classes), DOMAINNET, root)


def _numbers(name: str, words: Sequence[str]) -> list[int]:
    """The labels of a list."""
    try:
        return [int(word) for word in words]
    except ValueError as error:
        raise DOMAINNET.disagree(f"{name} has a label that is no number ({error})") from error


def lines_of(source: Source, root: Path, path: Path, fields: int) -> list[list[str]]:
    """The lines of a text file, each of so many words; empty lines are passed over.

    Args:
        source: the data set's source, for the message.
        root: the data root.
        path: the file.
        fields: how many words.

    Raises:
        ClbenchError: the file is absent or unreadable, or a line has other words.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or kind_and_reason(error)
        raise source.missing(root, f"{path}: {reason}") from error
    found = [line.split() for line in text.splitlines()]
    for number, words in enumerate(found, 1):
        if words and len(words) != fields:
            raise source.disagree(f"line {number} of {path} has {len(words)} words, not {fields}")
    if not any(found):
        raise source.missing(root, f"{path} is empty")
    return [words for words in found if words]
