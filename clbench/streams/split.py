"""Streams that split the classes of one data set into tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import model_validator

from clbench.data.datasets import DataSet
from clbench.streams.single import DividedSetConfig
from clbench.streams.storage import Shelf


@dataclass(frozen=True)
class Preset:
    """What one name of the table stands for."""

    dataset: str
    tasks: int | tuple[int, ...]
    summary: str
    pretrain_classes: tuple[int, ...] = ()
    leave_out: tuple[int, ...] = ()

    @property
    def sizes(self) -> int | list[int]:
        """The default of ``stream.tasks``."""
        return self.tasks if isinstance(self.tasks, int) else list(self.tasks)


SPLITS = {
    "split_digits": Preset(
        "digits", 3, "scikit-learn's 8x8 digits, offline; 0-3 for pretraining", (0, 1, 2, 3)
    ),
    "split_mnist": Preset("mnist", 5, "MNIST in 5 tasks of 2 digits"),
    "split_fashion_mnist": Preset("fashion_mnist", 5, "Fashion-MNIST in 5 tasks of 2 classes"),
    "split_cifar10": Preset("cifar10", 5, "CIFAR-10 in 5 tasks of 2 classes"),
    "split_cifar100": Preset("cifar100", 20, "CIFAR-100 in 20 tasks of 5 classes"),
    "food101": Preset("food101", 20, "Food-101 without label 100, in 20 tasks of 5", (), (100,)),
    "split_tiny_imagenet": Preset("tiny_imagenet", 10, "Tiny-ImageNet in 10 tasks of 20 classes"),
    "split_cub200": Preset("cub200", 10, "CUB-200-2011, official split, in 10 tasks of 20 birds"),
    "split_cub200_pilot": Preset("cub200_pilot", 10, "CUB-200 in PILOT's folders, 10 tasks of 20"),
    "split_imagenet_r": Preset("imagenet_r", 10, "ImageNet-R, a fixed fifth for testing, 10 tasks"),
    "split_imagenet_r_pilot": Preset("imagenet_r_pilot", 10, "ImageNet-R in PILOT's folders"),
    "split_imagenet_a": Preset("imagenet_a", 10, "ImageNet-A in PILOT's folders, 10 tasks of 20"),
    "split_objectnet": Preset("objectnet", 10, "ObjectNet in PILOT's folders, 10 tasks of 20"),
    "split_omnibenchmark": Preset(
        "omnibenchmark", 10, "OmniBenchmark in PILOT's folders, 10 of 30"
    ),
    "split_vtab": Preset("vtab", 5, "VTAB in PILOT's folders, 5 tasks of 10, in label order"),
    "split_core50": Preset("core50", (10, *[5] * 8), "CORe50 in 9 tasks, objects in label order"),
}


class SplitConfig(DividedSetConfig):
    """The classes of one data set, divided into tasks in label order or in a drawn one."""

    summary: ClassVar[str] = "the classes of one data set, split into tasks"

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("name") in SPLITS:
            row = SPLITS[values["name"]]
            groups = values.get("classes")
            return {
                "tasks": len(groups) if isinstance(groups, list) and groups else row.sizes,
                "pretrain_classes": list(row.pretrain_classes),
                "leave_out": list(row.leave_out),
            } | values
        return values

    def data_set(self, data_dir: Path, shelf: Shelf) -> DataSet:
        """See :meth:`SingleConfig.data_set`."""
        return shelf.load(SPLITS[self.name].dataset, data_dir, self.download)
