"""CORe50: fifty objects in eleven sessions, read from its folders, or by its authors' lists."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from clbench.data.datasets.base import DataSet, Labelled, Source, require_files
from clbench.data.datasets.lists import lines_of
from clbench.data.datasets.sizes import as_published, unlike_published
from clbench.data.words import note

CORE50 = Source(
    "CORe50",
    "https://vlomonaco.github.io/core50/ (core50_128x128.zip)",
    "core50_128x128",
    "s1/ to s11/, each with o1/ to o50/ and their frames C_*.png",
    False,
    ("batches_filelists", "core50_runs"),
)
LISTS = Source(
    "CORe50's set of lists",
    "https://vlomonaco.github.io/core50/ (batches_filelists.zip)",
    "batches_filelists",
    "NC_inc/, NI_inc/ and NIC_inc/, each with run0/ to run9/ and their lists",
    False,
)
#: Scenarios with their number of batches.
BATCHES = {"nc": 9, "ni": 8, "nic": 79}
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


def core50_run(root: Path, scenario: str, run: int) -> DataSet:
    """One of the ten published runs of a scenario, exactly as its authors list it.

    Source: Lomonaco and Maltoni, "CORe50: a New Dataset and Benchmark for Continuous Object
    Recognition", CoRL 2017: new classes (NC), new instances (NI), or both (NIC). The runs of a
    scenario have the same batches in other orders. Object k of batch b has the label 50·b + k; all
    test frames are labelled as those of the first.

    Args:
        root: the data root.
        scenario: one of ``BATCHES``.
        run: 0 … 9.

    Raises:
        ClbenchError: lists or frames absent, unreadable or disagreeing.
    """
    folder = root / LISTS.folder / f"{scenario.upper()}_inc" / f"run{run}"
    number: dict[int, int] = {}  # NC counts objects in the order of its batches
    parts, batches = [], [f"train_batch_{batch:02d}" for batch in range(BATCHES[scenario])]
    for names in (batches, ["test"]):
        paths: list[Path] = []
        labels: list[int] = []
        for batch, name in enumerate(names):
            list_file = folder / f"{name}_filelist.txt"
            for file, label in lines_of(LISTS, root, list_file, 2):
                item = _object_of(file, list_file)
                _same_label(label, item, number, list_file)
                paths.append(root / CORE50.folder / file)
                labels.append(OBJECTS * batch + item)
        require_files(CORE50, root, paths)
        parts.append(Labelled(tuple(paths), np.array(labels, dtype=np.int64)))
    if len({*parts[0].images, *parts[1].images}) < len(parts[0].images) + len(parts[1].images):
        raise LISTS.disagree(f"a frame is listed twice in {folder}")
    if len(number) < OBJECTS or len({*number.values()}) < OBJECTS:
        raise LISTS.disagree(
            f"{folder} has {len(number)} objects under {len({*number.values()})} labels, not "
            f"{OBJECTS}"
        )
    made = DataSet("core50", parts[0], parts[1], _names() * len(batches))
    if told := unlike_published(replace(made, classes=_names())):
        note(f"run {run} of CORe50's {scenario.upper()} {told}")
    return made


def _object_of(file: str, list_file: Path) -> int:
    """The object of a frame, from 0, such as 9 of s1/o10/C_01_10_000.png."""
    found = re.fullmatch(r"s(\d{1,2})/o(\d{1,2})/C_[\d_]+\.png", file)
    if not found or not 1 <= int(found[2]) <= OBJECTS:
        raise LISTS.disagree(f"{list_file} has {file!r}, which is no frame of an object")
    return int(found[2]) - 1


def _same_label(label: str, item: int, number: dict[int, int], list_file: Path) -> None:
    """Take note of an object's label in ``number``, and refuse another one."""
    if not label.isdecimal():
        raise LISTS.disagree(f"{list_file} has the label {label!r}, which is no number")
    if number.setdefault(item, int(label)) != int(label):
        raise LISTS.disagree(
            f"{list_file} has the label {label} for o{item + 1}, others {number[item]}"
        )


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
