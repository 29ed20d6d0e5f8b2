"""CORe50: fifty objects in eleven sessions, read from the paths of its frames."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clbench.data.datasets.base import DataSet, Labelled, Source
from clbench.data.datasets.sizes import as_published

CORE50 = Source(
    "CORe50",
    "https://vlomonaco.github.io/core50/ (core50_128x128.zip)",
    "core50_128x128",
    "s1/ to s11/, each with o1/ to o50/ and their frames C_*.png",
    False,
)
OBJECTS = 50
TEST_SESSIONS = (3, 7, 10)
TRAIN_SESSIONS = (1, 2, 4, 5, 6, 8, 9, 11)


def core50(root: Path, download: bool) -> DataSet:
    """CORe50: 50 objects, 119,894 training and 44,972 test frames of 128 x 128 pixels.

    Source: Lomonaco and Maltoni, "CORe50: a New Dataset and Benchmark for Continuous Object
    Recognition", CoRL 2017; sessions 3, 7 and 10 are for testing, as its authors have it.

    Args:
        root: the data root.
        download: without effect, torchvision does not have this set.

    Raises:
        ClbenchError: folders absent, unreadable or empty.
    """
    return _read("core50", root, lambda _, item: item, _names())


def core50_sessions(root: Path, download: bool) -> DataSet:
    """CORe50 with a label for each object of each training session.

    Object k of the i-th training session has the label 50·i + k; all test frames are labelled as
    those of the first. The arguments are those of :func:`core50`.

    Raises:
        ClbenchError: folders absent, unreadable or empty.
    """

    def label(session: int, item: int) -> int:
        return item if session in TEST_SESSIONS else OBJECTS * TRAIN_SESSIONS.index(session) + item

    return _read("core50_sessions", root, label, _names() * len(TRAIN_SESSIONS))


def _names() -> tuple[str, ...]:
    return tuple(f"o{number}" for number in range(1, OBJECTS + 1))


def _read(
    name: str, root: Path, label: Callable[[int, int], int], classes: tuple[str, ...]
) -> DataSet:
    parts = []
    for sessions in (TRAIN_SESSIONS, TEST_SESSIONS):
        paths: list[Path] = []
        labels: list[int] = []
        for session in sessions:
            for item, called in enumerate(_names()):
                frames = _frames(root, root / CORE50.folder / f"s{session}" / called)
                paths += frames
                labels += [label(session, item)] * len(frames)
        parts.append(Labelled(tuple(paths), np.array(labels, dtype=np.int64)))
    return as_published(DataSet(name, parts[0], parts[1], classes), CORE50, root)


def _frames(root: Path, folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise CORE50.missing(root, f"{folder}: {error.strerror}") from error
    frames = [folder / name for name in names if name.endswith(".png") and name[0] != "."]
    if not frames:
        raise CORE50.missing(root, f"there are no frames in {folder}")
    return frames
