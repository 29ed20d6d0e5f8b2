"""Data sets that come as folders of class folders, in training and test part or whole.

Most of them are known to the class-incremental literature in the form in which the authors of
PILOT (https://github.com/sun-hailong/LAMDA-PILOT) hand them out: folders ``train`` and ``test``
with a folder for each class. Which image is in which part is theirs; no list of it exists.
"""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clbench.data.datasets.base import DataSet, Labelled, Source, every_fifth
from clbench.data.datasets.sizes import as_published
from clbench.data.datasets.walk import Listing, listing
from clbench.data.words import few

_PILOT = "the links in https://github.com/sun-hailong/LAMDA-PILOT"
_FOLDERS = "train/<class>/ and test/<class>/ with the images"


@dataclass(frozen=True)
class Packed:
    """The loader of a data set whose two parts are folders of class folders.

    Attributes:
        name: of the data set.
        source: where it comes from and where its files belong.
        train, test: the folders of the parts.
        synsets: which of timm's lists of WordNet ids names its classes; "" for none.
        unreadable: images of the official archive that nobody can read.
    """

    name: str
    source: Source
    train: str = "train"
    test: str = "test"
    synsets: str = ""
    unreadable: tuple[str, ...] = ()

    def __call__(self, root: Path, download: bool) -> DataSet:
        """The data set, its classes in the order of their folders' names.

        Args:
            root: the data root.
            download: without effect, these sets must be fetched by hand.

        Raises:
            ClbenchError: folders absent, empty or disagreeing, or other classes than published.
        """
        place = root / self.source.folder
        train, test = (class_folders(self.source, root, place / x) for x in (self.train, self.test))
        odd = sorted(set(train.classes) ^ set(test.classes))
        if odd:
            raise self.source.disagree(f"only one of {self.train} and {self.test} has {few(odd)}")
        if self.synsets:
            require_synsets(self.source, root, self.synsets, train.classes)
        made = DataSet(self.name, self._part(train), self._part(test), train.classes)
        return as_published(made, self.source, root)

    def _part(self, found: Listing) -> Labelled:
        images = [
            (path, label)
            for label, paths in enumerate(found.images)
            for path in paths
            if f"{found.classes[label]}/{path.name}" not in self.unreadable
        ]
        labels = np.array([label for _, label in images], dtype=np.int64)
        return Labelled(tuple(path for path, _ in images), labels)


def _pilot(name: str, title: str, folder: str, synsets: str = "") -> Packed:
    return Packed(name, Source(title, _PILOT, folder, _FOLDERS, False), synsets=synsets)


CUB200_PILOT = _pilot("cub200_pilot", "CUB-200 as PILOT has it", "cub")
IMAGENET_R_PILOT = _pilot(
    "imagenet_r_pilot", "ImageNet-R as PILOT has it", "imagenet-r", "imagenet_r"
)
IMAGENET_A = _pilot("imagenet_a", "ImageNet-A as PILOT has it", "imagenet-a", "imagenet_a")
OBJECTNET = _pilot("objectnet", "ObjectNet as PILOT has it", "objectnet")
OMNIBENCHMARK = _pilot("omnibenchmark", "OmniBenchmark as PILOT has it", "omnibenchmark")
VTAB = _pilot("vtab", "VTAB as PILOT has it", "vtab-cil/vtab")
NOTMNIST = Packed(
    "notmnist",
    Source(
        "notMNIST",
        "https://github.com/facebookresearch/Adversarial-Continual-Learning (data/notMNIST.zip)",
        "notMNIST",
        "Train/<letter>/*.png and Test/<letter>/*.png for A to J",
        False,
    ),
    "Train",
    "Test",
    unreadable=(
        "A/RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png",
        "F/Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png",
    ),
)
IMAGENET_R = Source(
    "ImageNet-R",
    "https://github.com/hendrycks/imagenet-r (imagenet-r.tar)",
    "imagenet-r",
    "one folder for each of its 200 classes, named by WordNet id, as in the archive",
    False,
)
OFFICE_HOME = Source(
    "Office-Home",
    "https://www.hemanthdv.org/officeHomeDataset.html",
    "OfficeHomeDataset_10072016",
    "Art/<class>/, Clipart/<class>/, Product/<class>/ and Real World/<class>/ with the images",
    False,
)
OFFICE_HOME_DOMAINS = ("Art", "Clipart", "Product", "Real World")


def imagenet_r(root: Path, download: bool) -> DataSet:
    """ImageNet-R: renditions of 200 ImageNet classes, 24,000 training and 6,000 test images.

    Source: Hendrycks et al., "The Many Faces of Robustness", ICCV 2021. There is no official split;
    the literature draws a fifth of all images at random for testing. Here the draw is fixed: the
    fifth whose "<class>/<file name>" have the smallest SHA-256 digests.

    Args:
        root: the data root.
        download: without effect, torchvision does not have this set.

    Raises:
        ClbenchError: folders absent or empty, or other classes than published.
    """
    found = class_folders(IMAGENET_R, root, root / IMAGENET_R.folder)
    if {"train", "test"} <= set(found.classes):
        raise IMAGENET_R.missing(
            root, "it holds train and test, as PILOT has it: that is stream split_imagenet_r_pilot"
        )
    require_synsets(IMAGENET_R, root, "imagenet_r", found.classes)
    paths = [path for images in found.images for path in images]
    labels = np.repeat(np.arange(len(found.images)), [len(images) for images in found.images])
    digests = [hashlib.sha256(f"{p.parent.name}/{p.name}".encode()).digest() for p in paths]
    test = np.zeros(len(paths), dtype=bool)
    test[sorted(range(len(paths)), key=digests.__getitem__)[: len(paths) // 5]] = True
    made = DataSet("imagenet_r", *divided(paths, labels, test), found.classes)
    return as_published(made, IMAGENET_R, root)


def office_home(root: Path, download: bool) -> DataSet:
    """Office-Home: 65 kinds of objects in four domains, 15,588 images.

    Source: Venkateswara et al., "Deep Hashing Network for Unsupervised Domain Adaptation", CVPR
    2017. There is no official split: every fifth image of each class of each domain, in the order
    of the sorted names, is a test image. Class c of domain d has the label 65·d + c.

    Args:
        root: the data root.
        download: without effect, torchvision does not have this set.

    Raises:
        ClbenchError: folders absent, empty or disagreeing.
    """
    place = root / OFFICE_HOME.folder
    domains = [class_folders(OFFICE_HOME, root, place / name) for name in OFFICE_HOME_DOMAINS]
    for name, domain in zip(OFFICE_HOME_DOMAINS, domains, strict=True):
        odd = sorted(set(domain.classes) ^ set(domains[0].classes))
        if odd:
            raise OFFICE_HOME.disagree(f"only one of Art and {name} has {few(odd)}")
    images = [paths for domain in domains for paths in domain.images]
    paths = [path for one in images for path in one]
    labels = np.repeat(np.arange(len(images)), [len(one) for one in images])
    parts = divided(paths, labels, every_fifth(labels))
    made = DataSet("office_home", parts[0], parts[1], domains[0].classes * len(domains))
    return as_published(made, OFFICE_HOME, root)


def class_folders(source: Source, root: Path, folder: Path) -> Listing:
    """What is in a folder of class folders, none of them empty.

    Raises:
        ClbenchError: the folder is missing, or has no class folders or empty ones.
    """
    if not folder.is_dir():
        raise source.missing(root, f"there is no folder {folder}")
    found = listing(folder)
    empty = [name for name, images in zip(found.classes, found.images, strict=True) if not images]
    if empty or not found.classes:
        raise source.missing(
            root, f"no images in {folder} for {few(empty) if empty else 'any class'}"
        )
    return found


def require_synsets(source: Source, root: Path, name: str, classes: tuple[str, ...]) -> None:
    """Check that the classes are those of one of timm's lists of WordNet ids, ``imagenet_r``, say.

    Raises:
        ClbenchError: they are not.
    """
    content = pkgutil.get_data("timm.data", f"_info/{name}_synsets.txt")
    assert content is not None
    wanted = set(content.decode().split())
    lacking, strange = sorted(wanted - set(classes)), sorted(set(classes) - wanted)
    if lacking or strange:
        raise source.missing(
            root,
            f"of its {len(wanted)} classes there are no folders {few(lacking, 3)}; of no class are "
            f"{few(strange, 3)}",
        )


def divided(
    paths: Sequence[Path], labels: np.ndarray, test: np.ndarray
) -> tuple[Labelled, Labelled]:
    """The training and the test part of images.

    Args:
        paths: N images.
        labels: (N,) int64.
        test: (N,) bool, which are for testing.
    """
    train, tested = (
        Labelled(tuple(paths[i] for i in np.flatnonzero(chosen).tolist()), labels[chosen])
        for chosen in (~test, test)
    )
    return train, tested
