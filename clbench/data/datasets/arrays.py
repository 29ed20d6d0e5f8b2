"""Data sets small enough to be held in memory: Digits, MNIST, Fashion-MNIST and CIFAR."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torchvision import datasets as tv

from clbench.data.datasets.base import (
    DataSet,
    Labelled,
    Source,
    every_fifth,
    from_torchvision,
    kind_and_reason,
    labelled,
)
from clbench.data.datasets.repacked import IDX_SHAPES, other_archives, read_idx, unpack_checked

IDX_CONTENTS = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte, or the four .gz files of these names"
)
MNIST = Source("MNIST", "http://yann.lecun.com/exdb/mnist/", "MNIST/raw", IDX_CONTENTS, True)
FASHION_MNIST = Source(
    "Fashion-MNIST",
    "https://github.com/zalandoresearch/fashion-mnist",
    "FashionMNIST/raw",
    IDX_CONTENTS,
    True,
)
_CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
CIFAR10 = Source(
    "CIFAR-10",
    _CIFAR_PAGE,
    "cifar-10-batches-py",
    "data_batch_1 to data_batch_5, test_batch and batches.meta of the Python version, unchanged",
    True,
)
CIFAR100 = Source(
    "CIFAR-100",
    _CIFAR_PAGE,
    "cifar-100-python",
    "train, test and meta of the Python version, unchanged",
    True,
)


def digits(root: Path, download: bool) -> DataSet:
    """The 8 by 8 handwritten digits that scikit-learn ships: 1,797 images, 10 classes.

    They are the *test part* of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits"
    (UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49), so no official split
    of them exists. Here every fifth image of each class, in file order, is a test image: 1,442
    for training and 355 for testing. Both parts contain digits of the same writers.

    Args:
        root: not used, the images come with scikit-learn.
        download: not used.

    Returns:
        Grey images (N, 8, 8), uint8; the original 0 … 16 is scaled to 0 … 255.
    """
    pixels, labels = _of_scikit_learn()
    images = np.rint(pixels * (255 / 16)).astype(np.uint8)
    test = every_fifth(labels)
    return DataSet(
        name="digits",
        train=Labelled(images[~test], labels[~test]),
        test=Labelled(images[test], labels[test]),
        classes=tuple("0123456789"),
    )


@cache
def _of_scikit_learn() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Its digits, pixels (N, 8, 8) in 0 … 16 and labels (N,), as ``load_digits`` has them.

    They are read from its file: to import it takes half a second, as it imports pandas.
    """
    found = find_spec("sklearn")
    path = Path(found.origin or "").parent / "datasets/data/digits.csv.gz" if found else Path()
    if not path.is_file():  # a release that has them elsewhere
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return bunch.images, bunch.target.astype(np.int64)
    rows = np.loadtxt(path, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)


def mnist(root: Path, download: bool) -> DataSet:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, (N, 28, 28).

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86(11), 1998; official split.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    return idx("mnist", tv.MNIST, MNIST, root, download)


def fashion_mnist(root: Path, download: bool) -> DataSet:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes, (N, 28, 28).

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms", 2017, https://arxiv.org/abs/1708.07747; official split.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    return idx("fashion_mnist", tv.FashionMNIST, FASHION_MNIST, root, download)


def cifar10(root: Path, download: bool) -> DataSet:
    """CIFAR-10: 50,000 training and 10,000 test images, (N, 32, 32, 3), 10 classes.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report,
    University of Toronto, 2009; official split.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    return _cifar("cifar10", tv.CIFAR10, CIFAR10, root, download)


def cifar100(root: Path, download: bool) -> DataSet:
    """CIFAR-100: 50,000 training and 10,000 test images, (N, 32, 32, 3), 100 fine classes.

    Source: as for CIFAR-10; official split.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    return _cifar("cifar100", tv.CIFAR100, CIFAR100, root, download)


def idx(name: str, kind: Any, source: Source, root: Path, download: bool) -> DataSet:
    """Read MNIST or a set in its format.

    Args:
        name: of the data set.
        kind: torchvision's class.
        source: where it comes from.
        root: the data root.
        download: whether the network may be used.

    Raises:
        ClbenchError: files absent, damaged, disagreeing, or not to be downloaded.
    """
    archives = [(root / source.folder / file, md5) for file, md5 in kind.resources]
    classes = tuple(kind.classes)
    found = _repacked_idx(root, download, source, archives)
    if found is not None:
        images, labels, test_images, test_labels = (found[file] for file in IDX_SHAPES)
    else:
        train, test = (
            from_torchvision(source, root, download, kind, archives, train=part)
            for part in (True, False)
        )
        images, labels = train.data.numpy(), train.targets.numpy()
        test_images, test_labels = test.data.numpy(), test.targets.numpy()
    return DataSet(
        name,
        labelled(source, "training", images, labels, len(classes)),
        labelled(source, "test", test_images, test_labels, len(classes)),
        classes,
    )


def _repacked_idx(
    root: Path, download: bool, source: Source, archives: Sequence[tuple[Path, str]]
) -> dict[str, np.ndarray] | None:
    """The arrays of four archives in another compression than the official ones."""
    there = all(path.is_file() for path, _ in archives)
    plain = all(path.with_suffix("").is_file() for path, _ in archives)
    if not there or plain or not other_archives(archives):
        return None
    try:
        return read_idx(root / source.folder)
    except (ValueError, OSError) as error:
        if download:
            return None
        raise source.missing(root, kind_and_reason(error)) from error


def _cifar(name: str, kind: Any, source: Source, root: Path, download: bool) -> DataSet:
    """Read CIFAR-10 or CIFAR-100; `kind` is torchvision's class."""
    archives = [(root / kind.filename, kind.tgz_md5)]
    _unpack_repacked_cifar(kind, source, root, download, archives)
    train, test = (
        from_torchvision(source, root, download, kind, archives, train=part)
        for part in (True, False)
    )
    classes = tuple(train.classes)
    return DataSet(
        name,
        labelled(source, "training", train.data, train.targets, len(classes)),
        labelled(source, "test", test.data, test.targets, len(classes)),
        classes,
    )


def _unpack_repacked_cifar(
    kind: Any, source: Source, root: Path, download: bool, archives: Sequence[tuple[Path, str]]
) -> None:
    """Unpack an archive in another compression than the official one, if that is all there is."""
    listed = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    sums = {f"{kind.base_folder}/{file}": md5 for file, md5 in listed}
    if (root / kind.base_folder).exists() or not other_archives(archives):
        return
    try:
        unpack_checked(archives[0][0], root, sums)
    except (ValueError, OSError) as error:
        if not download:
            raise source.missing(root, kind_and_reason(error)) from error
