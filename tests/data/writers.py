"""Writers of tiny data sets in the on-disk formats of the real ones."""

import gzip
import json
import pickle
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@cache
def jpeg() -> bytes:
    """A 4 by 3 JPEG."""
    buffer = BytesIO()
    Image.new("RGB", (4, 3), (200, 100, 50)).save(buffer, "JPEG")
    return buffer.getvalue()


def write_image(path: Path) -> Path:
    """Write a 4 by 3 JPEG, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg())
    return path


def write_idx(raw: Path, arrays: Sequence[np.ndarray], compressed: bool = False) -> None:
    """Write MNIST's four files; `arrays` in the order of `IDX_FILES`, all uint8."""
    raw.mkdir(parents=True, exist_ok=True)
    for name, array in zip(IDX_FILES, arrays, strict=True):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
        content = header + array.tobytes()
        if compressed:
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (raw / name).write_bytes(content)


def write_cifar(
    folder: Path,
    batches: Mapping[str, tuple[np.ndarray, Sequence[int]]],
    label_key: str,
    meta: tuple[str, str, Sequence[str]],
) -> None:
    """Write CIFAR's pickled batches.

    Args:
        folder: the batches' folder.
        batches: for each file its images, uint8 (N, 32, 32, 3), and labels.
        label_key: "labels" for CIFAR-10, "fine_labels" for CIFAR-100.
        meta: the metadata file's name, its key and the class names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in batches.items():
        # The originals hold a row of 3,072 numbers for each image, all red ones first.
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
        (folder / name).write_bytes(pickle.dumps({"data": rows, label_key: list(labels)}))
    file, key, names = meta
    (folder / file).write_bytes(pickle.dumps({key: list(names)}))


def write_food101(
    root: Path, train: Mapping[str, Sequence[str]], test: Mapping[str, Sequence[str]]
) -> None:
    """Write Food-101; `train` and `test` give each class's image numbers."""
    base = root / "food-101"
    (base / "meta").mkdir(parents=True)
    (base / "images").mkdir()
    for split, content in (("train", train), ("test", test)):
        listing = {
            name: [f"{name}/{image}" for image in images] for name, images in content.items()
        }
        (base / "meta" / f"{split}.json").write_text(json.dumps(listing))
        for images in listing.values():
            for image in images:
                write_image(base / "images" / f"{image}.jpg")


def write_flowers102(
    root: Path, labels: Sequence[int], train: list[int], val: list[int], test: list[int]
) -> None:
    """Write Flowers-102; labels and image numbers count from 1, as in the originals."""
    base = root / "flowers-102"
    for number in range(1, len(labels) + 1):
        write_image(base / "jpg" / f"image_{number:05d}.jpg")
    savemat(base / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    ids = {"trnid": train, "valid": val, "tstid": test}
    savemat(
        base / "setid.mat",
        {key: np.array([numbers], dtype=np.uint16) for key, numbers in ids.items()},
    )


def write_caltech101(root: Path, counts: Mapping[str, int]) -> None:
    """Write Caltech-101 with this many images a class (empty files) and its outlines' folders."""
    base = root / "caltech101"
    for name, count in counts.items():
        folder = base / "101_ObjectCategories" / name
        folder.mkdir(parents=True)
        (base / "Annotations" / name).mkdir(parents=True)
        for number in range(1, count + 1):
            (folder / f"image_{number:04d}.jpg").touch()


def write_cars_list(path: Path, rows: Sequence[tuple[str, int]], field: str = "class") -> None:
    """Write one of Stanford Cars' lists: a 1 by N struct array of boxes, classes and names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boxes = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    dtype = [(name, object) for name in (*boxes, field, "fname")]
    array = np.empty((1, len(rows)), dtype=dtype)
    for column, (name, label) in enumerate(rows):
        array[0, column] = (*(np.uint16(1) for _ in boxes), np.uint8(label), name)
    savemat(path, {"annotations": array})


def write_stanford_cars(
    root: Path,
    classes: Sequence[str],
    train: Sequence[tuple[str, int]],
    test: Sequence[tuple[str, int]],
) -> None:
    """Write Stanford Cars; rows are (file name, class number from 1)."""
    base = root / "stanford_cars"
    write_cars_list(base / "devkit" / "cars_train_annos.mat", train)
    write_cars_list(base / "cars_test_annos_withlabels.mat", test)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": _cells(classes).T})
    for folder, rows in (("cars_train", train), ("cars_test", test)):
        for name, _ in rows:
            write_image(base / folder / name)


def write_dogs_list(path: Path, rows: Sequence[tuple[str, int]]) -> None:
    """Write one of Stanford Dogs' lists: N by 1 cells of file names, and N by 1 labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [name for name, _ in rows]
    content = {
        "file_list": _cells(names),
        "annotation_list": _cells([name.removesuffix(".jpg") for name in names]),
        "labels": np.array([[label] for _, label in rows], dtype=np.float64),
    }
    savemat(path, content)


def write_stanford_dogs(
    root: Path, train: Sequence[tuple[str, int]], test: Sequence[tuple[str, int]]
) -> None:
    """Write Stanford Dogs; rows are (<wnid>-<breed>/<file name>, label from 1)."""
    base = root / "stanford_dogs"
    for part, rows in (("train", train), ("test", test)):
        write_dogs_list(base / f"{part}_list.mat", rows)
        for name, _ in rows:
            write_image(base / "Images" / name)


def _cells(strings: Sequence[str]) -> np.ndarray:
    """An N by 1 MATLAB cell array of strings."""
    cells = np.empty((len(strings), 1), dtype=object)
    cells[:, 0] = strings
    return cells
