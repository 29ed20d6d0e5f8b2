"""Any classification data set of torchvision, by the name of its class."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision.datasets as tv

from clbench.data.datasets import laid_out
from clbench.data.datasets.base import DataSet, Labelled, Source, every_fifth, from_torchvision
from clbench.errors import ClbenchError, shown
from clbench.explain import nearest

PAGE = "https://pytorch.org/vision/stable/datasets.html"
#: What torchvision calls the parts: the first that a class knows is taken.
TRAIN, TEST = ("trainval", "train"), ("test", "val", "valid")
#: Arguments that clbench gives itself.
OURS = ("download", "transform", "target_transform", "transforms", "train", "loader")


def torchvision_set(
    name: str,
    arguments: Mapping[str, Any],
    splits: tuple[str | None, str | None],
    root: Path,
    download: bool,
) -> DataSet:
    """A data set, whose files torchvision finds in the data root, or fetches there.

    Sets that torchvision holds as one array are used as they are; the images of the others are
    laid out as files in ``root/torchvision``, once.

    Args:
        name: of a class in ``torchvision.datasets``.
        arguments: of the class, as ``{"split": "letters"}`` of EMNIST.
        splits: names of the training and the test part; None: what the class has. Of one that has
            no test part every fifth image of each class is held out.
        root: the data root.
        download: whether the network may be used.

    Raises:
        ClbenchError: unknown class, wrong arguments, no classification, or missing files.
    """
    kind = _kind(name)
    for key in arguments:
        if key in OURS:
            raise ClbenchError(f"stream.arguments.{key}: clbench gives it itself: leave it out")
    folder = laid_out.place_of(root, "torchvision", name, {**arguments, "splits": splits})
    if known := laid_out.read(folder, name):
        return known
    train, test = _parts(kind, name, arguments, splits, root, download)
    labels = [_labels(part, name) for part in (train, test) if part is not None]
    present = np.unique(labels[0])  # EMNIST's letters have a class that nothing is of
    classes = _names(train, present)
    if len(labels) > 1 and (strange := np.setdiff1d(labels[1], present)).size:
        raise ClbenchError(f"{name}: classes {strange[:5].tolist()} are in its test part alone")
    labels = [np.searchsorted(present, one) for one in labels]
    arrays = [_array(part) for part in (train, test) if part is not None]
    if all(array is not None for array in arrays):
        made = [Labelled(a, b) for a, b in zip(arrays, labels, strict=True)]  # type: ignore[arg-type]
        if len(made) == 1:
            laid_out.tell_held_out(name)
            out = every_fifth(labels[0])
            images = made[0].images
            assert isinstance(images, np.ndarray)
            made = [Labelled(images[rows], labels[0][rows]) for rows in (~out, out)]
        return DataSet(name, made[0], made[1], classes)
    samples = [_samples(*one) for one in zip((train, test), labels, strict=False)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    return laid_out.lay_out(
        folder, name, samples[0], samples[1] if test is not None else None, classes
    )


def _kind(name: str) -> Any:
    known = [n for n in tv.__all__ if inspect.isclass(getattr(tv, n))]
    if name not in known:
        raise ClbenchError(
            f"stream.dataset: torchvision has no data set {shown(name)}{nearest(name, known)}: "
            f"{PAGE} lists them"
        )
    return getattr(tv, name)


def _parameters(kind: Any) -> set[str]:
    """Of a class's constructor, and of those that it hands ``**kwargs`` on to."""
    found: set[str] = set()
    for cls in kind.__mro__[:-1]:
        given = inspect.signature(cls.__init__).parameters.values()
        found |= {p.name for p in given}
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in given):
            break
    return found


def _parts(
    kind: Any,
    name: str,
    arguments: Mapping[str, Any],
    splits: tuple[str | None, str | None],
    root: Path,
    download: bool,
) -> tuple[Any, Any]:
    """The training part, and the test part if there is one."""
    takes = _parameters(kind)

    def make(place: Path, download: bool, **part: Any) -> Any:
        usual = {"root": str(place), "download": download}
        given = {key: value for key, value in usual.items() if key in takes}
        return kind(**(given | dict(arguments) | part))

    source = Source(name, PAGE, "", "its files, as torchvision has them", "download" in takes)
    if "train" in takes:
        ways: list[list[dict[str, Any]]] = [[{"train": True}], [{"train": False}]]
    elif "split" in takes and "split" not in arguments:
        names = [[own] if own else usual for own, usual in zip(splits, (TRAIN, TEST), strict=True)]
        ways = [[{"split": one} for one in some] for some in names]
    else:
        ways = [[{}], []]
    parts = [_first(source, root, download, make, some) for some in ways]
    return parts[0], parts[1]


def _first(source: Source, root: Path, download: bool, make: Any, ways: Any) -> Any:
    """The part in the first of several ways that the class knows."""
    failure: ClbenchError | None = None
    for way in ways:
        try:
            return from_torchvision(source, root, download, make, [], **way)
        except ClbenchError as error:
            failure = error
            if not isinstance(error.__cause__, ValueError):  # so it does know the part
                break
    if failure is not None:
        if isinstance(failure.__cause__, TypeError | ValueError):
            told = " ".join(str(failure.__cause__).split())
            raise ClbenchError(f"torchvision refuses {source.title}: {told}") from failure
        raise failure
    return None


def _labels(part: Any, name: str) -> np.ndarray:
    found = getattr(part, "targets", None)
    found = getattr(part, "labels", None) if found is None else found
    if found is None or len(found) != len(part):
        found = [part[number][1] for number in range(len(part))]
    labels = np.asarray(found)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ClbenchError(
            f"stream.dataset: {name} is no classification data set: its labels are like "
            f"{shown(found[0])}"
        )
    return labels.astype(np.int64)


def _names(part: Any, present: np.ndarray) -> tuple[str, ...]:
    names = getattr(part, "classes", None) or getattr(part, "categories", None) or []
    if len(names) > present[-1]:
        return tuple(str(names[label]) for label in present)
    return tuple(str(label) for label in present)


def _array(part: Any) -> np.ndarray | None:
    """All images as uint8 (N, H, W) or (N, H, W, 3), where the class holds them so."""
    data = getattr(part, "data", None)
    data = data.numpy() if isinstance(data, torch.Tensor) else data
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim not in (3, 4):
        return None
    if data.ndim == 4 and data.shape[3] != 3:
        data = data.transpose(0, 2, 3, 1)
    first = np.asarray(part[0][0])
    return np.ascontiguousarray(data) if np.array_equal(first, data[0]) else None


def _samples(part: Any, labels: np.ndarray) -> Iterator[laid_out.Sample]:
    for number, label in enumerate(labels):
        yield part[number][0], int(label)
