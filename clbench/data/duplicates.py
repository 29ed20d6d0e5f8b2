"""Images that are there more than once, found by what is in the files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from clbench.data.datasets import Labelled
from clbench.data.words import counted, note, spelt


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
    paths, test_paths = _paths(train), _paths(test)
    shared = np.flatnonzero(np.isin(tested, trained))
    if len(shared):
        place = shared[0]
        twin = np.flatnonzero(trained == tested[place])[0]
        note(
            f"Of {counted(len(tested), 'test image')}, {len(shared):,} are training images too, "
            f"file for file, such as {spelt(test_paths[place])} = {spelt(paths[twin])}: test "
            "accuracy is too high by what the model knows by heart"
        )
    _between_classes([*train, *test], np.concatenate([trained, tested]), paths + test_paths)


def _between_classes(parts: Sequence[Labelled], keys: np.ndarray, paths: list[Path]) -> None:
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
        one, two = (paths[order[found[0] + step]] for step in (0, 1))
        note(
            f"Equal files in several classes: {counted(len(found), 'image')}, such as "
            f"{spelt(one)} = {spelt(two)}"
        )


def _keys(digests: np.ndarray) -> np.ndarray:
    """One value for each image (N,) that can be compared and sorted."""
    return np.ascontiguousarray(digests).view("S32").ravel()


def _paths(parts: Iterable[Labelled]) -> list[Path]:
    return [Path(path) for part in parts for path in part.images]
