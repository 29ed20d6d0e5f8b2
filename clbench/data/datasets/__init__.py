"""Every data set behind one interface: training part, test part and class names.

Official splits are kept where they exist; what each set needs on disk is in `data/README.md`.
"""

from collections.abc import Callable
from pathlib import Path

from clbench.data.datasets.arrays import cifar10, cifar100, digits, fashion_mnist, mnist
from clbench.data.datasets.base import DataSet, Labelled
from clbench.data.datasets.files import caltech101, flowers102, food101
from clbench.data.datasets.folders import image_folder, imagenet_validation
from clbench.data.datasets.stanford import stanford_cars, stanford_dogs
from clbench.errors import ClbenchError

__all__ = ["DATASETS", "DataSet", "Labelled", "image_folder", "imagenet_validation", "load"]

DATASETS: dict[str, Callable[[Path, bool], DataSet]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "food101": food101,
    "flowers102": flowers102,
    "caltech101": caltech101,
    "stanford_cars": stanford_cars,
    "stanford_dogs": stanford_dogs,
}


def load(name: str, root: Path, download: bool = True) -> DataSet:
    """Load a data set by its name in `DATASETS`.

    Args:
        name: the data set.
        root: folder that holds the data sets' own folders; see `data/README.md`.
        download: whether a missing set may be fetched where torchvision can do so. With False
            the network is never used.

    Returns:
        The data set. Images of the small sets are uint8 arrays, those of the others paths.

    Raises:
        ClbenchError: unknown name; or files absent, damaged, disagreeing or not to be downloaded.
    """
    if name not in DATASETS:
        raise ClbenchError(f"unknown data set '{name}'; choose one of {', '.join(DATASETS)}")
    return DATASETS[name](Path(root).expanduser(), download)
