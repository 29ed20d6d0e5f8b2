"""Streams that split the classes of one data set into tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from clbench.streams.assemble import assemble
from clbench.streams.base import DISK, Shelf, Storage, Stream
from clbench.streams.divide import Classes, DividedConfig, usable


@dataclass(frozen=True)
class Preset:
    """What one name of the table stands for."""

    dataset: str
    tasks: int
    summary: str
    pretrain_classes: tuple[int, ...] = ()
    leave_out: tuple[int, ...] = ()


SPLITS = {
    "split_digits": Preset(
        "digits", 3, "scikit-learn's 8x8 digits, offline; 0-3 for pretraining", (0, 1, 2, 3)
    ),
    "split_mnist": Preset("mnist", 5, "MNIST in 5 tasks of 2 digits"),
    "split_fashion_mnist": Preset("fashion_mnist", 5, "Fashion-MNIST in 5 tasks of 2 classes"),
    "split_cifar10": Preset("cifar10", 5, "CIFAR-10 in 5 tasks of 2 classes"),
    "split_cifar100": Preset("cifar100", 20, "CIFAR-100 in 20 tasks of 5 classes"),
    "food101": Preset("food101", 20, "Food-101 without label 100, in 20 tasks of 5", (), (100,)),
}


class SplitConfig(DividedConfig):
    """The classes of one data set, divided into tasks in label order or in a drawn one."""

    summary: ClassVar[str] = "the classes of one data set, split into tasks"

    pretrain_classes: Classes = Field(
        description="classes set apart, by name or number: for `model.weights: pretrain`, and for "
        "retention"
    )
    leave_out: Classes = Field(description="classes that are not used at all, by name or number")

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

    def build(self, data_dir: Path, storage: Storage, shelf: Shelf = DISK) -> Stream:
        """See :meth:`StreamConfig.build`."""
        data = shelf.load(SPLITS[self.name].dataset, data_dir, self.download)
        labels, apart = usable(data.classes, self.pretrain_classes, self.leave_out)
        groups = self.groups(data.classes, labels)
        return assemble(self, [data], groups, data_dir, storage, apart, shelf=shelf)
