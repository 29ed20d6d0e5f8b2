"""Several data sets, one a task: as a sequence, or each on its own from the pretrained weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from clbench.data import datasets
from clbench.streams.assemble import assemble
from clbench.streams.base import Group, Stream, StreamConfig
from clbench.streams.storage import DISK, Shelf, Storage

SIX = ["cifar10", "cifar100", "flowers102", "caltech101", "stanford_cars", "stanford_dogs"]
#: Ebrahimi et al., *Adversarial continual learning*, in the order of the prompting literature.
FIVE = ["svhn", "mnist", "cifar10", "notmnist", "fashion_mnist"]
#: Zheng et al., *Preventing zero-shot transfer degradation in continual learning of vision-language
#: models* (MTIL), in its first order, by the alphabet.
MTIL = [
    *("fgvc_aircraft", "caltech101", "cifar100", "dtd", "eurosat", "flowers102", "food101"),
    *("mnist", "oxford_pets", "stanford_cars", "sun397"),
]
#: Ilharco et al., *Editing models with task arithmetic*: what merging is measured on.
VISION8 = [
    *("stanford_cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn"),
]
#: Wang et al., *Localizing task information for improved model merging and compression*, who added
#: six, and six again; `emnist_digits` is what their program takes of EMNIST.
VISION14 = [
    *VISION8,
    *("cifar100", "stl10", "flowers102", "oxford_pets", "pcam", "fer2013"),
]
VISION20 = [
    *VISION14,
    *("emnist_digits", "cifar10", "food101", "fashion_mnist", "rendered_sst2", "kmnist"),
]
#: By name of the stream.
TRANSFERS = {
    "transfer6": SIX,
    "five_datasets": FIVE,
    "mtil": MTIL,
    "vision8": VISION8,
    "vision14": VISION14,
    "vision20": VISION20,
}


class TransferConfig(StreamConfig):
    """One data set a task."""

    summary: ClassVar[str] = "several data sets, one a task"

    datasets: list[str] = Field(min_length=1, description="the data sets, in order")
    independent: bool = Field(
        False, description="start every task from the pretrained weights (one model a data set)"
    )

    @property
    def starts_anew(self) -> bool:
        """See :attr:`StreamConfig.starts_anew`."""
        return self.independent

    @property
    def can_miss(self) -> Sequence[str]:
        """See :attr:`StreamConfig.can_miss`."""
        return self.datasets if self.independent else ()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("name") in TRANSFERS:
            return {"datasets": TRANSFERS[values["name"]]} | values
        return values

    @field_validator("datasets")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        unknown = [name for name in names if name not in datasets.DATASETS]
        if unknown or len(set(names)) < len(names):
            raise ValueError(
                f"names each of {', '.join(datasets.DATASETS)} at most once, got {names}"
            )
        return names

    def build(self, data_dir: Path, storage: Storage, shelf: Shelf = DISK) -> Stream:
        """See :meth:`StreamConfig.build`."""
        loaded = [shelf.load(name, data_dir, self.download) for name in self.datasets]
        groups = [
            Group(data.name, number, tuple(range(len(data.classes))))
            for number, data in enumerate(loaded)
        ]
        return assemble(
            self, loaded, groups, data_dir, storage, independent=self.independent, shelf=shelf
        )
