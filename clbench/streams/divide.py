"""Which classes make up which task: one meaning for all streams that divide a data set."""

from __future__ import annotations

import re
from abc import ABC
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from clbench.data.words import few, note
from clbench.errors import ClbenchError
from clbench.streams.base import Group, StreamConfig
from clbench.streams.called import Class, class_numbers


def _sizes(value: Any) -> Any:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    sizes = value if isinstance(value, list | tuple) else [value]
    if not sizes or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(
            "must be a number of tasks of equal size, or the number of classes of each task, as "
            "in [2, 3, 1]"
        )
    return value


def _class(value: Any) -> Class:
    if type(value) not in (int, str):
        raise ValueError(
            f"must name classes by their names or numbers, but {value!r} is neither: put quotes "
            "around a name that YAML takes for something else"
        )
    return value


def _tasks_of_classes(value: Any) -> Any:
    """Check what was given as a whole, so that a mistake anywhere in it is one line."""
    if value is None:
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(x, list | tuple) for x in value):
        raise ValueError(
            "must be a list of tasks, each a list of classes by name or number, as in "
            "[[cat, dog], [3, 7, 1]]"
        )
    return [[_class(label) for label in group] for group in value]


def _order(value: Any) -> Any:
    if value is None or (isinstance(value, str) and _LEGACY.fullmatch(value)):
        return value
    raise ValueError(
        "must be legacy-SEED, as in legacy-1993, or legacy-SEED-inverse; for an order of your own "
        "list the classes in stream.classes"
    )


def _list_of_classes(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of classes by name or number, as in [cat, 3]")
    return [_class(label) for label in value]


_LEGACY = re.compile(r"legacy-(\d{1,9})(-inverse)?")
Order = Annotated[str | None, BeforeValidator(_order)]
Sizes = Annotated[int | list[int], BeforeValidator(_sizes)]
Groups = Annotated[list[list[Class]] | None, BeforeValidator(_tasks_of_classes)]
Classes = Annotated[list[Class], BeforeValidator(_list_of_classes)]

#: Whether the same place in the head stands for classes of several tasks.
Labels = Literal["own", "shared"]
LABELS = (
    "own: every task has outputs of its own; shared: the tasks are told apart by nothing, and "
    "have one head, as large as one task's number of classes (domain-incremental)"
)
TASKS = "number of tasks of equal size, or the number of classes of each task, e.g. [2, 3, 1]"


class DividedConfig(StreamConfig, ABC):
    """A stream that divides the classes of one data set into tasks."""

    tasks: Sizes = Field(description=TASKS)
    order_seed: int | None = Field(
        None,
        ge=0,
        description="draws the class order; default: label order, of folders the order of names",
    )
    order: Order = Field(
        None,
        description="legacy-1993: the class order of the class-incremental literature, NumPy's "
        "old generator with the seed 1993 (PILOT, PyCIL); legacy-1993-inverse: the same draw the "
        "other way round (Mammoth)",
    )
    first: int | None = Field(
        None,
        ge=1,
        description="the number of classes of the first task; the other tasks share the rest "
        "equally: 50 of 100 with tasks: 6 is B50-Inc10",
    )
    classes: Groups = Field(
        None,
        description="the classes of each task in order, by name or number, e.g. [[cat, dog], "
        "[3, 7, 1]], instead of `tasks`, `first`, `order` and `order_seed`. A number counts the "
        "classes from 0 in label order, of folders in the order of names; a text (quoted, if of "
        "digits) is a name",
    )
    labels: Labels = Field(
        "own",
        description=LABELS + ". The first class of every task has output 0, the second 1 …",
    )

    @property
    def shares_labels(self) -> bool:
        """See :attr:`StreamConfig.shares_labels`."""
        return self.labels == "shared"

    @model_validator(mode="after")
    def _one_order(self) -> DividedConfig:
        if self.order is not None and self.order_seed is not None:
            raise ValueError(
                f"order = {self.order} and order_seed = {self.order_seed} both give the class "
                "order: leave one of them out"
            )
        if self.first is not None and not isinstance(self.tasks, int):
            raise ValueError(
                f"first = {self.first}, and tasks lists the size of every task: leave first out, "
                "or give tasks as a number"
            )
        return self

    def groups(self, names: Sequence[str], labels: Sequence[int]) -> list[Group]:
        """The tasks.

        Args:
            names: of the data set's classes, by label.
            labels: those that can be used, in label order.

        Raises:
            ClbenchError: if the classes do not divide as the fields say.
        """
        if self.classes is None:
            made = divide(labels, self.tasks, self.order_seed, self.order, self.first)
        else:
            made = self._as_listed(self.classes, names, labels)
        return [
            Group(task_name([names[label] for label in group]), 0, tuple(group)) for group in made
        ]

    def _as_listed(
        self, groups: Sequence[Sequence[Class]], names: Sequence[str], labels: Sequence[int]
    ) -> list[list[int]]:
        if not groups or not all(groups):
            raise ClbenchError(
                "stream.classes must be non-empty groups of different classes of the stream, one "
                "a task; a group is empty"
            )
        made = [class_numbers(group, names, "stream.classes") for group in groups]
        counts = Counter(label for group in made for label in group)
        twice = [label for label, count in counts.items() if count > 1]
        if twice or not set(counts) <= set(labels):
            wrong = twice or sorted(set(counts) - set(labels))
            why = (
                "is named more than once"
                if twice
                else "is set apart or left out by stream.pretrain_classes or stream.leave_out, "
                "which as [] leave all to the tasks"
            )
            listed = few(
                names[label] if names[label] == str(label) else f"{label} ({names[label]})"
                for label in wrong
            )
            raise ClbenchError(
                "stream.classes must be non-empty groups of different classes of the stream; "
                f"{listed} {why}"
            )
        unused = [names[label] for label in labels if label not in counts]
        if unused:
            note(f"stream.classes leaves out {len(unused)} of {len(labels)} classes: {few(unused)}")
        for field in ("order", "order_seed", "first"):
            if getattr(self, field) is not None:
                note(f"stream.classes gives the order and the tasks: stream.{field} is not used")
        if self.tasks not in (1, len(made)):
            note(f"stream.classes makes {len(made)} tasks: stream.tasks is not used")
        return made


def divide(
    labels: Sequence[int],
    tasks: int | Sequence[int],
    order_seed: int | None,
    order: str | None = None,
    first: int | None = None,
) -> list[list[int]]:
    """The labels of each task.

    Args:
        labels: the labels to divide, in label order.
        tasks: number of tasks of equal size, or the size of each.
        order_seed: draws the order; None keeps it.
        order: draws it as others do, see :func:`legacy`.
        first: size of the first task; the others are of equal size.

    Raises:
        ClbenchError: if there are no labels, or they do not divide.

    >>> divide([5, 6, 7, 8], [1, 3], None)
    [[5], [6, 7, 8]]
    >>> divide([5, 6, 7, 8], 3, None, first=2)
    [[5, 6], [7], [8]]
    """
    count = len(labels)
    if not count:
        raise ClbenchError(
            "the stream has no classes left: shorten stream.leave_out or stream.pretrain_classes"
        )
    sizes = _sizes_of(tasks, first, count)
    if order_seed is not None:
        labels = np.random.default_rng(order_seed).permutation(labels).tolist()
    if order is not None:
        labels = [labels[place] for place in legacy(order, count)]
    ends = np.cumsum(sizes).tolist()
    return [list(labels[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def legacy(order: str, count: int) -> list[int]:
    """The class order of the class-incremental literature, as iCaRL's authors drew it.

    Args:
        order: ``legacy-SEED``, the class that comes i-th is the i-th of the permutation (PILOT,
            PyCIL); or ``legacy-SEED-inverse``, the permutation says where each class comes
            (Mammoth).
        count: number of classes.

    >>> legacy("legacy-1993", 100)[:5]
    [68, 56, 78, 8, 23]
    """
    found = _LEGACY.fullmatch(order)
    assert found is not None
    drawn = np.random.RandomState(int(found[1])).permutation(count)
    return (np.argsort(drawn) if found[2] else drawn).tolist()  # type: ignore[no-any-return]


def _sizes_of(tasks: int | Sequence[int], first: int | None, count: int) -> list[int]:
    """The number of classes of each task."""
    if not isinstance(tasks, int):
        if sum(tasks) != count:
            raise ClbenchError(
                f"stream.tasks = [{few(tasks)}] makes {sum(tasks)} classes, but the stream has "
                f"{count}: give sizes that add up to {count}, or list some in stream.classes"
            )
        return list(tasks)
    if first is None:
        if count % tasks:
            raise ClbenchError(_does_not_divide(tasks, count))
        return [count // tasks] * tasks
    rest, others = count - first, tasks - 1
    if rest < 1:
        raise ClbenchError(
            f"stream.first = {first} leaves no classes to other tasks, the stream has {count}: "
            f"give at most {count - 1}, or leave it out"
        )
    if others < 1 or rest % others:
        fitting = [n + 1 for n in range(1, rest + 1) if rest % n == 0]
        raise ClbenchError(
            f"stream.first = {first} leaves {rest} classes, which do not divide by the other "
            f"{others} of stream.tasks = {tasks}: use one of {fitting} tasks"
        )
    return [first] + [rest // others] * others


def _does_not_divide(tasks: int, count: int) -> str:
    fitting = [n for n in range(1, count + 1) if count % n == 0]
    hint = ""
    if tasks < count:
        small, more = divmod(count, tasks)
        sizes = [small + 1] * more + [small] * (tasks - more)
        shown = str(sizes) if tasks <= 10 else f"[{few(sizes, 3)}]"
        hint = f", or uneven sizes such as stream.tasks: {shown}"
    return (
        f"stream.tasks = {few([tasks])} does not divide the stream's {count} classes; use one of "
        f"{fitting}{hint}, or list the groups in stream.classes"
    )


def task_name(classes: Sequence[str]) -> str:
    """A task's first classes, for people."""
    return ", ".join(classes[:3]) + (" …" if len(classes) > 3 else "")
