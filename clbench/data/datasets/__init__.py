"""Every data set behind one interface: training part, test part and class names.

Official splits are kept where they exist; what each set needs on disk is in `data/README.md`.
"""

from collections.abc import Callable
from pathlib import Path

from clbench.data.datasets import (
    arrays,
    core50,
    files,
    lists,
    merged,
    more_arrays,
    packed,
    stanford,
    transfers,
)
from clbench.data.datasets.base import DataSet, Labelled, Source
from clbench.data.datasets.folders import image_folder, imagenet_validation
from clbench.errors import ClbenchError

__all__ = [
    "DATASETS",
    "SOURCES",
    "DataSet",
    "Labelled",
    "Source",
    "image_folder",
    "imagenet_validation",
    "load",
]

DATASETS: dict[str, Callable[[Path, bool], DataSet]] = {
    "digits": arrays.digits,
    "mnist": arrays.mnist,
    "fashion_mnist": arrays.fashion_mnist,
    "cifar10": arrays.cifar10,
    "cifar100": arrays.cifar100,
    "food101": files.food101,
    "flowers102": files.flowers102,
    "caltech101": files.caltech101,
    "stanford_cars": stanford.stanford_cars,
    "stanford_dogs": stanford.stanford_dogs,
    "tiny_imagenet": lists.tiny_imagenet,
    "cub200": lists.cub200,
    "cub200_pilot": packed.CUB200_PILOT,
    "imagenet_r": packed.imagenet_r,
    "imagenet_r_pilot": packed.IMAGENET_R_PILOT,
    "imagenet_a": packed.IMAGENET_A,
    "objectnet": packed.OBJECTNET,
    "omnibenchmark": packed.OMNIBENCHMARK,
    "vtab": packed.VTAB,
    "core50": core50.core50,
    "core50_sessions": core50.core50_sessions,
    "office_home": packed.office_home,
    "domainnet": lists.domainnet,
    "fgvc_aircraft": transfers.fgvc_aircraft,
    "dtd": transfers.dtd,
    "eurosat": transfers.eurosat,
    "oxford_pets": transfers.oxford_pets,
    "sun397": lists.sun397,
    "svhn": transfers.svhn,
    "notmnist": packed.NOTMNIST,
    "gtsrb": merged.gtsrb,
    "resisc45": merged.resisc45,
    "stl10": more_arrays.stl10,
    "pcam": merged.pcam,
    "fer2013": more_arrays.fer2013,
    "emnist_digits": more_arrays.emnist_digits,
    "kmnist": more_arrays.kmnist,
    "rendered_sst2": merged.rendered_sst2,
    "eurosat_splits": merged.EUROSAT_SPLITS,
}
#: Where each but `digits`, which comes with scikit-learn, comes from, and where its files belong.
SOURCES: dict[str, Source] = {
    "mnist": arrays.MNIST,
    "fashion_mnist": arrays.FASHION_MNIST,
    "cifar10": arrays.CIFAR10,
    "cifar100": arrays.CIFAR100,
    "food101": files.FOOD101,
    "flowers102": files.FLOWERS102,
    "caltech101": files.CALTECH101,
    "stanford_cars": stanford.STANFORD_CARS,
    "stanford_dogs": stanford.STANFORD_DOGS,
    "tiny_imagenet": lists.TINY_IMAGENET,
    "cub200": lists.CUB200,
    "cub200_pilot": packed.CUB200_PILOT.source,
    "imagenet_r": packed.IMAGENET_R,
    "imagenet_r_pilot": packed.IMAGENET_R_PILOT.source,
    "imagenet_a": packed.IMAGENET_A.source,
    "objectnet": packed.OBJECTNET.source,
    "omnibenchmark": packed.OMNIBENCHMARK.source,
    "vtab": packed.VTAB.source,
    "core50": core50.CORE50,
    "core50_sessions": core50.CORE50,
    "office_home": packed.OFFICE_HOME,
    "domainnet": lists.DOMAINNET,
    "fgvc_aircraft": transfers.AIRCRAFT,
    "dtd": transfers.DTD,
    "eurosat": transfers.EUROSAT,
    "oxford_pets": transfers.PETS,
    "sun397": lists.SUN397,
    "svhn": transfers.SVHN,
    "notmnist": packed.NOTMNIST.source,
    "gtsrb": merged.GTSRB,
    "resisc45": merged.RESISC45,
    "stl10": more_arrays.STL10,
    "pcam": merged.PCAM,
    "fer2013": more_arrays.FER2013,
    "emnist_digits": more_arrays.EMNIST,
    "kmnist": more_arrays.KMNIST,
    "rendered_sst2": merged.RENDERED_SST2,
    "eurosat_splits": merged.EUROSAT_SPLITS.source,
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
