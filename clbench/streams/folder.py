"""A stream from the user's own image folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from clbench.data.datasets import DataSet, image_folder
from clbench.data.words import expanded, few, note, spelt
from clbench.errors import ClbenchError
from clbench.streams.assemble import assemble
from clbench.streams.base import Group, Stream
from clbench.streams.divide import TASKS, DividedConfig, Sizes
from clbench.streams.storage import DISK, Shelf, Storage
from clbench.text.numbers import counted


class FolderConfig(DividedConfig):
    """Folders of class folders: one pair divided into tasks, or one pair a task."""

    summary: ClassVar[str] = "your own images: train/<class>/*.jpg and test/<class>/*.jpg"

    train: Path | list[Path] = Field(
        description="a folder of class folders; or a list of them, one a task"
    )
    test: Path | list[Path] | None = Field(
        None,
        description="the same for the test images; default: every fifth image of each class of "
        "`train`, in the order of the sorted paths",
    )
    tasks: Sizes = Field(1, description=TASKS)

    @model_validator(mode="after")
    def _as_many_of_each(self) -> FolderConfig:
        if not _listed(self.train):
            raise ValueError("train must name a folder")
        if self.test is not None and len(_listed(self.train)) != len(_listed(self.test)):
            raise ValueError("train and test must name as many folders as each other")
        return self

    def build(self, data_dir: Path, storage: Storage, shelf: Shelf = DISK) -> Stream:
        """See :meth:`StreamConfig.build`."""
        trains = _listed(self.train)
        tests = [None] * len(trains) if self.test is None else _listed(self.test)
        _refuse_repeated(trains, [test for test in tests if test is not None])
        loaded = [image_folder(*pair) for pair in zip(trains, tests, strict=True)]
        if len(loaded) == 1:
            groups = self.groups(loaded[0].classes, range(len(loaded[0].classes)))
        else:
            groups = self._one_a_task(trains, loaded)
        about = {}
        if self.test is None:
            note("No stream.test: every fifth image of each class is held out for testing")
            about["test"] = "every fifth image of each class"
        return assemble(
            self, loaded, groups, data_dir, storage, about=about, compare=True, shelf=shelf
        )

    def _one_a_task(self, trains: Sequence[Path], loaded: Sequence[DataSet]) -> list[Group]:
        given = {
            "stream.classes": self.classes is not None,
            "stream.order_seed": self.order_seed is not None,
            "stream.order": self.order is not None,
            "stream.first": self.first is not None,
            "stream.tasks": self.tasks not in (1, len(loaded)),
        }
        for name, wrong in given.items():
            if wrong:
                # What a config says cannot be left out on the command line.
                unset = f"--{name} {1 if name == 'stream.tasks' else 'null'}"
                raise ClbenchError(
                    f"{name} = {getattr(self, name.removeprefix('stream.'))}, but stream.train "
                    f"lists {len(loaded)} folders, one a task: "
                    f"leave {name} out ({unset}), or give one folder"
                )
        if self.shares_labels:
            _refuse_different(trains, loaded)
        counts = Counter(name for data in loaded for name in data.classes)
        shared = sorted(name for name, count in counts.items() if count > 1)
        if shared and not self.shares_labels:
            note(
                f"{counted(len(shared), 'class name')} in several folders of stream.train "
                f"({few(shared, 3)}): each task learns classes of its own; stream.labels: shared "
                "makes them the same"
            )
        return [
            Group(name, number, tuple(range(len(loaded[number].classes))))
            for number, name in enumerate(distinguishing(trains))
        ]


def _refuse_different(trains: Sequence[Path], loaded: Sequence[DataSet]) -> None:
    """Classes that tasks share have the same names in all folders."""
    for folder, data in zip(trains, loaded, strict=True):
        odd = sorted(set(data.classes) ^ set(loaded[0].classes))
        if odd:
            raise ClbenchError(
                f"stream.labels = 'shared', but not all of {spelt(trains[0])} and {spelt(folder)} "
                f"have the {'classes' if len(odd) > 1 else 'class'} {few(odd, 5)}: give every "
                "folder of stream.train the same class folders, or leave stream.labels out"
            )


def distinguishing(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell them apart, without what all of them end in.

    >>> distinguishing([Path("pictures/a/train"), Path("pictures/b/train")])
    ['a', 'b']
    """
    parts = [expanded(folder).absolute().parts for folder in folders]
    while len({part[-1] for part in parts}) == 1 and all(len(part) > 1 for part in parts):
        parts = [part[:-1] for part in parts]
    for length in range(1, max(map(len, parts)) + 1):
        names = [spelt("/".join(part[-length:])) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [spelt(folder) for folder in folders]


def _listed(folders: Path | list[Path]) -> list[Path]:
    return folders if isinstance(folders, list) else [folders]


def _refuse_repeated(trains: Sequence[Path], tests: Sequence[Path]) -> None:
    """Refuse folders that are trained on twice, or trained on and tested on."""
    real = [os.path.realpath(expanded(folder)) for folder in trains]
    for number, (folder, path) in enumerate(zip(trains, real, strict=True)):
        if path in real[:number]:
            raise ClbenchError(
                f"stream.train names the folder {spelt(folder)} twice: give each task images of "
                "its own"
            )
    for test in tests:
        if os.path.realpath(expanded(test)) in real:
            raise ClbenchError(
                f"{spelt(test)} is given for training and for testing: give a folder of other "
                "images as stream.test, or leave it out to hold every fifth image out"
            )
