"""Streams of one data set, of which classes can be set apart or left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from clbench.data.datasets import DataSet
from clbench.streams.assemble import assemble
from clbench.streams.base import Stream, StreamConfig
from clbench.streams.called import usable
from clbench.streams.divide import Classes, DividedConfig
from clbench.streams.storage import DISK, Shelf, Storage


class SingleConfig(StreamConfig, ABC):
    """One data set, some of whose classes no task learns; abstract."""

    pretrain_classes: Classes = Field(
        default_factory=list,
        description="classes set apart, by name or number: for `model.weights: pretrain`, and for "
        "retention",
    )
    leave_out: Classes = Field(
        default_factory=list, description="classes that are not used at all, by name or number"
    )

    @property
    def sets_apart(self) -> bool | None:
        """See :attr:`StreamConfig.sets_apart`."""
        return bool(self.pretrain_classes)

    @abstractmethod
    def data_set(self, data_dir: Path, shelf: Shelf) -> DataSet:
        """The data set.

        Args:
            data_dir: the data root.
            shelf: where data sets come from.

        Raises:
            ClbenchError: if it is missing.
        """

    def usable(self, data: DataSet) -> tuple[list[int], list[int]]:
        """Labels of the classes that tasks can learn, in label order, and of those set apart.

        Args:
            data: the data set.

        Raises:
            ClbenchError: if the fields name classes that are not there, or one more than once.
        """
        return usable(data.classes, self.pretrain_classes, self.leave_out)


class DividedSetConfig(SingleConfig, DividedConfig, ABC):
    """One data set, divided into tasks; abstract."""

    #: Whether to say which images are there more than once.
    compares: ClassVar[bool] = False

    def build(self, data_dir: Path, storage: Storage, shelf: Shelf = DISK) -> Stream:
        """See :meth:`StreamConfig.build`."""
        data = self.data_set(data_dir, shelf)
        labels, apart = self.usable(data)
        groups = self.groups(data.classes, labels)
        return assemble(
            self,
            [data],
            groups,
            data_dir,
            storage,
            apart,
            compare=self.compares,
            shelf=shelf,
        )
