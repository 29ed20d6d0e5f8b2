"""Images that are there more than once, found by what is in the files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clbench.data.datasets import Labelled
from clbench.data.words import note, spelt
from clbench.text.numbers import counted


def tell_duplicates(
    train: Sequence[Labelled],
    test: Sequence[Labelled],
    train_digests: np.ndarray | None,
    test_digests: np.ndarray | None,
) -> None:
    """Say which image files are equal that should not be.

    Args:
        train: training parts of the data sets, of paths.
        test: test parts.
        train_digests: SHA-256 of all training images, one data set after the other, uint8 (N, 32).
        test_digests: the same for all test images.
    """
    if train_digests is None or test_digests is None:
        return
    trained, tested = _keys(train_digests), _keys(test_digests)
    shared = np.flatnonzero(np.isin(tested, trained))
    if len(shared):
        place = shared[0]
        twin = np.flatnonzero(trained == tested[place])[0]
        note(
            f"Of {counted(len(tested), 'test image')}, {len(shared):,} are training images too, "
            f"file for file, such as {_name(test, place)} = {_name(train, twin)}: test "
            "accuracy is too high by what the model knows by heart"
        )
    _between_classes([*train, *test], np.concatenate([trained, tested]))


def _between_classes(parts: Sequence[Labelled], keys: np.ndarray) -> None:
    """Say which equal images of one data set have several labels."""
    half = len(parts) // 2
    owners = np.concatenate(
        [
            np.stack([np.full(len(part.labels), number % half), part.labels], axis=1)
            for number, part in enumerate(parts)
        ]
    )
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    other = (owners[order][1:] != owners[order][:-1]).any(axis=1)
    found = np.flatnonzero(same & other)
    if len(found):
        one, two = (_name(parts, order[found[0] + step]) for step in (0, 1))
        note(
            f"Equal files in several classes: {counted(len(found), 'image')}, such as {one} = {two}"
        )


def _keys(digests: np.ndarray) -> np.ndarray:
    """One value for each image (N,) that can be compared and sorted."""
    return np.ascontiguousarray(digests).view("S32").ravel()


def _name(parts: Sequence[Labelled], number: int) -> str:
    """What an image is called, by its place among all."""
    for part in parts:
        if number < len(part.labels):
            return spelt(part.images[int(number)])
        number -= len(part.labels)
    raise IndexError(number)
