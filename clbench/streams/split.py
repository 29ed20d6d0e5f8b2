"""Streams that split the classes of one data set into tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from clbench.data import datasets
from clbench.errors import ClbenchError
from clbench.streams.assemble import assemble
from clbench.streams.base import Group, Storage, Stream, StreamConfig


@dataclass(frozen=True)
class Row:
    """What one name of the table stands for."""

    dataset: str
    tasks: int
    summary: str
    pretrain_classes: tuple[int, ...] = ()
    leave_out: tuple[int, ...] = ()


SPLITS = {
    "split_digits": Row(
        "digits", 3, "scikit-learn's 8x8 digits, offline; 0-3 for pretraining", (0, 1, 2, 3)
    ),
    "split_mnist": Row("mnist", 5, "MNIST in 5 tasks of 2 digits"),
    "split_fashion_mnist": Row("fashion_mnist", 5, "Fashion-MNIST in 5 tasks of 2 classes"),
    "split_cifar10": Row("cifar10", 5, "CIFAR-10 in 5 tasks of 2 classes"),
    "split_cifar100": Row("cifar100", 20, "CIFAR-100 in 20 tasks of 5 classes"),
    "food101": Row("food101", 20, "Food-101 without label 100, in 20 tasks of 5", (), (100,)),
}


def divide(
    labels: list[int],
    tasks: int,
    order_seed: int | None,
    groups: list[list[int]] | None,
    hint: str = "",
) -> list[list[int]]:
    """The labels of each task.

    Args:
        labels: the labels to divide, in label order.
        tasks: number of tasks of equal size.
        order_seed: draws the order; None keeps it.
        groups: the answer itself, if the user gave it; checked.
        hint: another way out, where the labels do not divide.

    Raises:
        ClbenchError: if there are no labels or they do not divide, or ``groups`` names a label
            twice or one that is not there.
    """
    if groups is not None:
        flat = [label for group in groups for label in group]
        strange = sorted(set(flat) - set(labels))
        if strange or len(set(flat)) < len(flat) or not groups or not all(groups):
            raise ClbenchError(
                "stream.classes must be non-empty groups of different labels of the stream; "
                + (f"{strange} are not in it" if strange else "a label or group is repeated/empty")
            )
        return groups
    if not labels:
        raise ClbenchError(
            "the stream has no classes left: shorten stream.leave_out or stream.pretrain_classes"
        )
    if len(labels) % tasks:
        fitting = [n for n in range(1, len(labels) + 1) if len(labels) % n == 0]
        raise ClbenchError(
            f"stream.tasks = {tasks} does not divide the stream's {len(labels)} classes; "
            f"use one of {fitting}{hint}"
        )
    if order_seed is not None:
        labels = np.random.default_rng(order_seed).permutation(labels).tolist()
    size = len(labels) // tasks
    return [labels[start : start + size] for start in range(0, len(labels), size)]


class SplitConfig(StreamConfig):
    """The classes of one data set, divided into tasks in label order or in a drawn one."""

    summary: ClassVar[str] = "the classes of one data set, split into tasks"

    tasks: int = Field(ge=1, description="number of tasks of equal size")
    order_seed: int | None = Field(
        None, ge=0, description="draws the class order; default: label order"
    )
    classes: list[list[int]] | None = Field(
        None, description="the labels of each task, instead of `tasks` and `order_seed`"
    )
    pretrain_classes: list[int] = Field(
        description="labels set apart: for `model.weights: pretrain`, and for retention"
    )
    leave_out: list[int] = Field(description="labels that are not used at all")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("name") in SPLITS:
            row = SPLITS[values["name"]]
            groups = values.get("classes")
            return {
                "tasks": len(groups) if isinstance(groups, list) and groups else row.tasks,
                "pretrain_classes": list(row.pretrain_classes),
                "leave_out": list(row.leave_out),
            } | values
        return values

    def build(self, data_dir: Path, storage: Storage) -> Stream:
        """See :meth:`StreamConfig.build`."""
        data = datasets.load(SPLITS[self.name].dataset, data_dir, self.download)
        apart = {*self.pretrain_classes, *self.leave_out}
        strange = sorted(apart - set(range(len(data.classes))))
        if strange:
            raise ClbenchError(
                f"stream.pretrain_classes or stream.leave_out name labels {strange}, but "
                f"{self.name} has labels 0…{len(data.classes) - 1}"
            )
        if len(set(self.pretrain_classes)) < len(self.pretrain_classes):
            raise ClbenchError(
                f"stream.pretrain_classes = {self.pretrain_classes} name a label more than once"
            )
        labels = [label for label in range(len(data.classes)) if label not in apart]
        hint = ", or list the groups in stream.classes"
        groups = [
            Group(task_name([data.classes[label] for label in group]), 0, tuple(group))
            for group in divide(labels, self.tasks, self.order_seed, self.classes, hint)
        ]
        return assemble(self, [data], groups, data_dir, storage, self.pretrain_classes)


def task_name(classes: list[str]) -> str:
    """A task's first classes, for people."""
    return ", ".join(classes[:3]) + (" …" if len(classes) > 3 else "")
