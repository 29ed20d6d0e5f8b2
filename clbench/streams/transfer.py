"""Several data sets, one a task: as a sequence, or each on its own from the pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from clbench.data import datasets
from clbench.streams.assemble import assemble
from clbench.streams.base import DISK, Group, Shelf, Storage, Stream, StreamConfig

SIX = ["cifar10", "cifar100", "flowers102", "caltech101", "stanford_cars", "stanford_dogs"]


class TransferConfig(StreamConfig):
    """One data set a task."""

    summary: ClassVar[str] = "six transfer data sets, one a task: " + ", ".join(SIX)

    datasets: list[str] = Field(SIX, min_length=1, description="the data sets, in order")
    independent: bool = Field(
        False, description="start every task from the pretrained weights (one model a data set)"
    )

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
