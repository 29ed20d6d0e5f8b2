"""Images of other libraries' data sets as files, written once: then they are like any others."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clbench.data.datasets.base import DataSet, Labelled, every_fifth
from clbench.data.words import note
from clbench.errors import ClbenchError, shown

INDEX = "index.json"
#: An image with its label: a PIL image, or the bytes of an image file.
Sample = tuple[Any, Any]


def place_of(root: Path, library: str, name: str, settings: Mapping[str, Any]) -> Path:
    """The folder of a data set with settings, below the data root."""
    text = json.dumps([name, settings], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return root / library / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)[-60:].strip('-.')}-{digest}"


def read(folder: Path, name: str) -> DataSet | None:
    """A data set that was laid out before; None if it was not.

    Raises:
        ClbenchError: if its index is damaged.
    """
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        train, test = (_part(folder, index[part]) for part in ("train", "test"))
        if index["held_out"]:
            tell_held_out(name)
        return DataSet(name, train, test, tuple(index["classes"]))
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise ClbenchError(
            f"{folder / INDEX} is damaged: remove the folder, and it is made again"
        ) from error


def lay_out(
    folder: Path,
    name: str,
    train: Iterable[Sample],
    test: Iterable[Sample] | None,
    classes: tuple[str, ...],
) -> DataSet:
    """Write the images of a data set into a folder, all of them or none.

    Args:
        folder: it is not there yet.
        name: of the data set.
        train: its training part.
        test: its test part; None: every fifth image of each class is held out for testing.
        classes: names by label.

    Raises:
        ClbenchError: if a sample is no image with the number of a class.
    """
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        parts = {"train": _write(partial, "train", train, name, len(classes))}
        if test is not None:
            parts["test"] = _write(partial, "test", test, name, len(classes))
        else:
            parts = _held_out(parts["train"])
        index = {"classes": list(classes), "held_out": test is None, **parts}
        (partial / INDEX).write_text(json.dumps(index), encoding="utf-8")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    made = read(folder, name)
    assert made is not None
    return made


def tell_held_out(name: str) -> None:
    """Say that a data set has no test part, and what is taken."""
    note(f"{name} has no test part: every fifth image of each class is held out for testing")


def _part(folder: Path, entries: list[list[Any]]) -> Labelled:
    paths = tuple(folder / str(file) for file, _ in entries)
    return Labelled(paths, np.array([label for _, label in entries], dtype=np.int64))


def _held_out(entries: list[list[Any]]) -> dict[str, list[list[Any]]]:
    held = every_fifth(np.array([label for _, label in entries]))
    return {
        "train": [entry for entry, out in zip(entries, held, strict=True) if not out],
        "test": [entry for entry, out in zip(entries, held, strict=True) if out],
    }


def _write(
    folder: Path, part: str, samples: Iterable[Sample], name: str, classes: int
) -> list[list[Any]]:
    """Write a part's images; returns the file and label of each."""
    entries: list[list[Any]] = []
    for number, (image, label) in enumerate(samples):
        if isinstance(label, bool | str) or not hasattr(label, "__index__"):
            raise ClbenchError(f"{name} has no classes: its labels are like {shown(label)}")
        if not 0 <= int(label) < classes:
            raise ClbenchError(f"{name} has the label {int(label)}, and {classes} classes")
        if isinstance(image, bytes):
            content, ending = image, str(Image.open(io.BytesIO(image)).format).lower()
        elif isinstance(image, Image.Image):
            made, ending = io.BytesIO(), "png"
            plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
            plain.save(made, "PNG", compress_level=1)
            content = made.getvalue()
        else:
            raise ClbenchError(f"{name} yields no images, but {type(image).__name__}")
        file = Path(part, str(int(label)), f"{number:07}.{ending}")
        (folder / file.parent).mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
        entries.append([file.as_posix(), int(label)])
    return entries
