"""Embeddings of classes' texts in a file, so that no text tower runs where images are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clbench.errors import ClbenchError, first_line
from clbench.files.disk import atomic

#: The way out of a file that does not do.
MAKE = "make it with clbench embed"


class Texts(NamedTuple):
    """What a file of text embeddings holds.

    Attributes:
        classes: C names, as the folders of images have them.
        rows_CD: float32, an embedding each, of any length but 0; as read, its largest entry is 1.
    """

    classes: tuple[str, ...]
    rows_CD: Tensor


def write_texts(path: Path, texts: Texts, about: Mapping[str, Sequence[str]]) -> None:
    """Write a file of text embeddings.

    Args:
        path: of the ``.npz`` file.
        texts: what it is to hold.
        about: more for people: lists of words by name.
    """
    arrays = {name: np.array(list(words), dtype=np.str_) for name, words in about.items()}
    with atomic(path) as file:
        np.savez(
            file,
            classes=np.array(texts.classes, dtype=np.str_),
            embeddings=texts.rows_CD.numpy().astype(np.float32),
            **arrays,  # type: ignore[arg-type]  # would be `allow_pickle`
        )


def read_texts(path: Path) -> Texts:
    """The text embeddings in a file; nothing in it is run.

    Raises:
        ClbenchError: if it is missing or no such file, or its arrays are not (C,) names and (C, D)
            finite numbers, or a name is there twice, or an embedding has no direction.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            classes, rows = found["classes"], found["embeddings"]
    except FileNotFoundError as error:
        raise ClbenchError(f"there is no file {path} of text embeddings: {MAKE}") from error
    except KeyError as error:
        raise ClbenchError(
            f"{path} is no file of text embeddings: it has no array {error}: {MAKE}"
        ) from error
    except Exception as error:  # numpy's and zipfile's own kinds, and an array in the file's place
        raise ClbenchError(
            f"{path} is no .npz file of text embeddings ({first_line(error)}): {MAKE}"
        ) from error
    if wrong := _flaw(classes, rows):
        raise ClbenchError(f"{path}: {wrong}: {MAKE}")
    names = tuple(str(name) for name in classes)
    # Lengths do not matter, and their squares may be out of a float's range.
    rows_CD = rows / np.abs(rows).max(axis=1, keepdims=True)
    return Texts(names, torch.from_numpy(np.ascontiguousarray(rows_CD, dtype=np.float32)))


def _flaw(classes: np.ndarray, rows: np.ndarray) -> str:
    """What is wrong with the arrays of a file; empty if nothing is."""
    if classes.ndim != 1 or classes.dtype.kind != "U":
        return f"classes are {_kind(classes)}, and not a list of names"
    if rows.ndim != 2 or rows.dtype.kind != "f" or len(rows) != len(classes) or not rows.size:
        return f"embeddings are {_kind(rows)}, and not a row of floats for {len(classes):,} classes"
    names, counts = np.unique(classes, return_counts=True)
    if (counts > 1).any():
        return f"the class {names[counts.argmax()]} is there twice"
    wrong = ~np.isfinite(rows).all(axis=1)
    if wrong.any():
        return f"the embedding of {classes[wrong.argmax()]} is not finite"
    if (none := ~rows.any(axis=1)).any():
        return f"the embedding of {classes[none.argmax()]} is zero, which has no cosine"
    return ""


def _kind(array: np.ndarray) -> str:
    return f"of shape {array.shape} and type {array.dtype}"
