"""Stanford Cars and Stanford Dogs, read from their authors' own MATLAB list files."""

from pathlib import Path
from typing import Any

import numpy as np

from clbench.data.datasets.base import (
    DataSet,
    Labelled,
    Source,
    kind_and_reason,
    labelled,
    require_files,
)

STANFORD_CARS = Source(
    "Stanford Cars",
    "a copy (the original page https://ai.stanford.edu/~jkrause/cars/car_dataset.html is gone; "
    "https://github.com/pytorch/vision/issues/7545 lists copies)",
    "stanford_cars",
    "devkit/cars_train_annos.mat, devkit/cars_meta.mat, cars_test_annos_withlabels.mat, "
    "cars_train/*.jpg and cars_test/*.jpg",
    False,
)
STANFORD_DOGS = Source(
    "Stanford Dogs",
    "http://vision.stanford.edu/aditya86/ImageNetDogs/ (images.tar and lists.tar)",
    "stanford_dogs",
    "train_list.mat, test_list.mat and Images/<wnid>-<breed>/*.jpg",
    False,
)


def stanford_cars(root: Path, download: bool) -> DataSet:
    """Stanford Cars: 196 models, 8,144 training and 8,041 test images.

    Source: Krause, Stark, Deng and Fei-Fei, "3D Object Representations for Fine-Grained
    Categorization", 3dRR-13 at ICCV 2013; official split. The layout is torchvision's.

    Args:
        root: the data root.
        download: without effect, no official download is left.

    Raises:
        ClbenchError: files absent, unreadable or disagreeing.
    """
    folder = root / STANFORD_CARS.folder
    train_list = folder / "devkit" / "cars_train_annos.mat"
    test_list = folder / "cars_test_annos_withlabels.mat"
    meta = folder / "devkit" / "cars_meta.mat"
    require_files(STANFORD_CARS, root, [train_list, meta, test_list])
    classes = tuple(_strings(_read_mat(STANFORD_CARS, root, meta, "class_names")))

    def part(title: str, listing: Path, images: Path) -> Labelled:
        rows = _read_mat(STANFORD_CARS, root, listing, "annotations")
        for field in ("fname", "class"):
            if field not in (rows.dtype.names or ()):
                raise STANFORD_CARS.missing(root, f"{listing} has no field '{field}'")
        paths = [images / name for name in _strings(rows["fname"])]
        require_files(STANFORD_CARS, root, paths)
        labels = [int(number.item()) - 1 for number in rows["class"].ravel()]
        return labelled(STANFORD_CARS, title, paths, labels, len(classes))

    train = part("training", train_list, folder / "cars_train")
    test = part("test", test_list, folder / "cars_test")
    return DataSet("stanford_cars", train, test, classes)


def stanford_dogs(root: Path, download: bool) -> DataSet:
    """Stanford Dogs: 120 breeds, 12,000 training and 8,580 test images.

    Source: Khosla, Jayadevaprakash, Yao and Fei-Fei, "Novel Dataset for Fine-Grained Image
    Categorization", FGVC workshop at CVPR 2011; official split.

    The images come from ImageNet, so a backbone pretrained on ImageNet may have seen them.

    Args:
        root: the data root.
        download: without effect, torchvision does not have this set.

    Raises:
        ClbenchError: files absent, unreadable or disagreeing.
    """
    folder = root / STANFORD_DOGS.folder
    lists = [folder / "train_list.mat", folder / "test_list.mat"]
    require_files(STANFORD_DOGS, root, lists)
    parts = []
    for path in lists:
        names = _strings(_read_mat(STANFORD_DOGS, root, path, "file_list"))
        labels = _read_mat(STANFORD_DOGS, root, path, "labels").ravel().astype(np.int64) - 1
        if len(names) != len(labels):
            raise STANFORD_DOGS.disagree(f"{path} has {len(names)} files, {len(labels)} labels")
        parts.append((names, labels))
    classes = _dog_classes(parts)
    paths = [[folder / "Images" / name for name in names] for names, _ in parts]
    require_files(STANFORD_DOGS, root, paths[0] + paths[1])
    return DataSet(
        "stanford_dogs",
        labelled(STANFORD_DOGS, "training", paths[0], parts[0][1], len(classes)),
        labelled(STANFORD_DOGS, "test", paths[1], parts[1][1], len(classes)),
        classes,
    )


def _dog_classes(parts: list[tuple[list[str], np.ndarray]]) -> tuple[str, ...]:
    """The breeds by label, from the folder names `<wnid>-<breed>` in the lists."""
    folders: dict[int, str] = {}
    for names, labels in parts:
        for name, label in zip(names, labels.tolist(), strict=True):
            folder = name.partition("/")[0]
            if folders.setdefault(label, folder) != folder:
                raise STANFORD_DOGS.disagree(
                    f"label {label + 1} stands for both {folders[label]} and {folder}"
                )
    if sorted(folders) != list(range(len(folders))) or len(set(folders.values())) != len(folders):
        raise STANFORD_DOGS.disagree(
            f"the labels of {len(set(folders.values()))} breeds do not number them one by one"
        )
    return tuple(folders[label].partition("-")[2] for label in range(len(folders)))


def _read_mat(source: Source, root: Path, path: Path, key: str) -> Any:
    """One variable of a MATLAB file."""
    from scipy.io import loadmat  # for these two data sets alone

    # scipy raises a dozen types for damaged files, among them zlib's and its own.
    try:
        content = loadmat(path)
    except Exception as error:
        raise source.missing(root, f"{path} cannot be read: {kind_and_reason(error)}") from error
    if key not in content:
        raise source.missing(root, f"{path} has no variable '{key}'")
    return content[key]


def _strings(cells: Any) -> list[str]:
    """The strings of a MATLAB cell array, whichever way it lies."""
    return [str(cell.item()) for cell in cells.ravel()]
