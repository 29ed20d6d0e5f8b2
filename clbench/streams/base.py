"""What is learned, in which order: tasks, their splits, and one global label space."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, NoReturn

import torch
from pydantic import Field
from torch import Tensor

from clbench.data.batches import Split
from clbench.data.images import Images
from clbench.errors import ClbenchError
from clbench.settings import Section
from clbench.streams.storage import DISK, Shelf, Storage


class Withheld(Split):
    """In the place of data that is not to be had: whoever touches it gets a ClbenchError; final.

    Args:
        told: what the error says.
    """

    def __init__(self, told: str) -> None:
        object.__setattr__(self, "told", told)  # images, index and labels are never set

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # copies and pickles ask for what may be missing
            raise AttributeError(name)
        raise ClbenchError(vars(self).get("told", "this data is withheld"))

    def __repr__(self) -> str:
        return "Withheld()"

    __eq__, __hash__ = object.__eq__, object.__hash__


@dataclass(frozen=True)
class Task:
    """One stage of a stream.

    Attributes:
        index: its row in the accuracy matrix, from 0.
        name: for people.
        classes: the global labels it is about; tasks that share labels all have the same.
        train, validation, test: its data. The validation part is held out of the training data.
            Methods see tasks without their test data, see :meth:`to_train_on`.
        stage, stages: its place, from 0, among what is trained on in turn, and how many of these
            the whole stream has, with those that ``first_tasks`` leaves out.
    """

    index: int
    name: str
    classes: range
    train: Split
    validation: Split
    test: Split
    stage: int = field(default=0, kw_only=True)
    stages: int = field(default=1, kw_only=True)

    def to_train_on(self) -> Task:
        """The task as methods see it: whoever touches its test data gets a ClbenchError."""
        told = (
            f"a method asked for the test data of task {self.name}, which must decide nothing: "
            "look at the task's `train` and `validation`; `arrange` hands `test` on as it is"
        )
        return replace(self, test=Withheld(told))


@dataclass(frozen=True)
class Stream:
    """A built stream.

    Attributes:
        tasks: in the order they are learned.
        class_names: for each global label; global labels count the classes in stream order.
            Where tasks share labels, a label may stand for another class in every task.
        train_images, test_images: the two sources all splits point into.
        allowed: bool (N,), which training images may be taken now.
        pretraining: training and test data of classes set apart for pretraining, labels 0…K-1.
        independent: whether every task starts from the pretrained weights.
        manifest: what went where; :attr:`manifest_hash` identifies it.
        later: tasks of the whole stream after these, where only the first are learned.
        shared: whether tasks share their labels: one label space and one head of its size, so
            that the network is never told which task an image is of (domain-incremental).
    """

    tasks: tuple[Task, ...]
    class_names: tuple[str, ...]
    train_images: Images
    test_images: Images
    allowed: Tensor
    pretraining: tuple[Split, Split] | None
    independent: bool
    manifest: dict[str, object]
    shared: bool = False
    later: tuple[Task, ...] = ()

    @property
    def manifest_hash(self) -> str:
        """SHA-256 of the manifest."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    @property
    def task_of_class(self) -> Tensor:
        """Task index of each global label, int64 (C,); -1 for one that no task learns.

        Of tasks that share labels, the first: there is one group of classes to choose among.
        """
        owner = torch.full((len(self.class_names),), -1)
        for task in reversed(self.tasks):
            owner[task.classes.start : task.classes.stop] = task.index
        return owner

    def open(self, task: Task, past: bool) -> None:
        """Let training take the images of ``task``, and with ``past`` those of earlier tasks."""
        self.allowed.zero_()
        for other in self.tasks if past else ():
            if other.index <= task.index:
                self.allowed[other.train.index] = True
        self.allowed[task.train.index] = True

    def first(self, count: int) -> Stream:
        """The stream without the tasks after the first ``count``.

        Their classes stay in the head, so that a run on it is the beginning of one on the whole.

        Raises:
            ClbenchError: if it has fewer.
        """
        if count > len(self.tasks):
            raise ClbenchError(
                f"stream.first_tasks = {count}, but the stream has {len(self.tasks)} tasks"
            )
        tasks = self.tasks[:count]
        entries = self.manifest["tasks"]
        assert isinstance(entries, list)
        return replace(
            self,
            tasks=tasks,
            later=self.tasks[count:],
            manifest={**self.manifest, "tasks": entries[:count]},
        )

    def on_validation(self) -> Stream:
        """The stream with its validation data in the place of the test data.

        Raises:
            ClbenchError: if nothing is held out.
        """
        if not all(len(task.validation) for task in self.tasks):
            raise ClbenchError(
                "stream.test_on = 'validation', but a task has no validation data: raise "
                "stream.validation, the share held out"
            )
        return replace(
            self,
            tasks=tuple(replace(task, test=task.validation) for task in self.tasks),
            test_images=self.train_images,
            manifest={**self.manifest, "test_on": "validation"},
        )


#: Versions of streams by name, where it is not the first. It is raised whenever the same recipe
#: comes to mean other images, labels, splits or orders than before.
VERSIONS: dict[str, int] = {}


class StreamConfig(Section, ABC):
    """The part of a recipe that describes a stream; subclasses build it."""

    summary: ClassVar[str]

    name: str = Field(description="see `--list`")
    validation: float = Field(
        0.1, ge=0, lt=1, description="share of each class's training images held out, never trained"
    )
    train_per_class: int | None = Field(
        None, ge=1, description="use at most so many training images of a class, for small runs"
    )
    test_per_class: int | None = Field(
        None, ge=1, description="use at most so many test images of a class, for small runs"
    )
    first_tasks: int | None = Field(
        None, ge=1, description="learn only so many tasks, from the first"
    )
    test_on: Literal["test", "validation"] = Field(
        "test",
        description="validation: the held-out part takes the test set's place, to choose settings",
    )
    download: bool = Field(True, description="fetch missing data where the data set allows it")

    @property
    def version(self) -> int:
        """Which of its definitions the stream has, see :data:`VERSIONS`."""
        return VERSIONS.get(self.name, 1)

    @property
    def shares_labels(self) -> bool:
        """Whether tasks share their labels, see :class:`Stream`."""
        return False

    @property
    def starts_anew(self) -> bool:
        """Whether every task starts from the pretrained weights."""
        return False

    @property
    def sets_apart(self) -> bool | None:
        """Whether classes are set apart for pretraining; None: this stream has no such field."""
        return None

    @property
    def can_miss(self) -> Sequence[str]:
        """Data sets of which some may be left out, as no task needs another's."""
        return ()

    def part(self, stream: Stream) -> Stream:
        """The part of the built stream that ``first_tasks`` and ``test_on`` ask for.

        Raises:
            ClbenchError: if it has fewer tasks, or no validation data.
        """
        if self.first_tasks is not None:
            stream = stream.first(self.first_tasks)
        return stream.on_validation() if self.test_on == "validation" else stream

    @abstractmethod
    def build(self, data_dir: Path, storage: Storage, shelf: Shelf = DISK) -> Stream:
        """Load the data and lay out all the tasks.

        Args:
            data_dir: where data sets and caches live.
            storage: how images are kept.
            shelf: where they come from.

        Raises:
            ClbenchError: if data is missing or does not fit the fields.
        """


@dataclass(frozen=True)
class Group:
    """The classes of one task before labels are global.

    Attributes:
        name: of the task.
        dataset: number of the data set they are of.
        labels: theirs in it.
        arrangement: number of the arrangement its images are seen in, see :func:`assemble`.
        tested: labels of the test images, where tasks share them; None: the same labels.
        partial: whether some classes may have no training images in this task, as where tasks
            share labels of which each has images of a few; they are tested all the same.
    """

    name: str
    dataset: int
    labels: tuple[int, ...]
    arrangement: int = 0
    tested: tuple[int, ...] | None = None
    partial: bool = False

    @property
    def test_labels(self) -> tuple[int, ...]:
        """The label of each class in the test images."""
        return self.labels if self.tested is None else self.tested
