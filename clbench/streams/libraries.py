"""Data sets of other libraries by their names, divided into tasks: no code is written for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from clbench.data.datasets import DataSet
from clbench.data.datasets.hub_sets import hub_set
from clbench.data.datasets.torchvision_sets import torchvision_set
from clbench.streams.divide import TASKS, Sizes
from clbench.streams.single import DividedSetConfig
from clbench.streams.storage import Shelf


class LibraryConfig(DividedSetConfig, ABC):
    """One data set of another library, divided into tasks; abstract."""

    tasks: Sizes = Field(1, description=TASKS)
    dataset: str
    train_split: str | None = Field(
        None, description="the library's name for the training part; default: the usual one"
    )
    test_split: str | None = Field(
        None,
        description="the same for the test part; where there is none, every fifth image of each "
        "class is held out",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_classes(cls, values: Any) -> Any:
        groups = values.get("classes") if isinstance(values, dict) else None
        return {"tasks": len(groups), **values} if isinstance(groups, list) and groups else values

    @abstractmethod
    def load(self, name: str, root: Path, fetch: bool) -> DataSet:
        """The data set.

        Args:
            name: what a shelf calls it.
            root: the data root.
            fetch: whether the network may be used.

        Raises:
            ClbenchError: if it is missing, or no classification.
        """

    def data_set(self, data_dir: Path, shelf: Shelf) -> DataSet:
        """See :meth:`SingleConfig.data_set`."""
        name = f"{self.name} {self.dataset}"  # as none of clbench's own is called
        return shelf.load(name, data_dir, self.download, self.load)


class TorchvisionConfig(LibraryConfig):
    """A class of ``torchvision.datasets``."""

    summary: ClassVar[str] = "any classification data set of torchvision, e.g. dataset: GTSRB"

    dataset: str = Field(description="name of the class, e.g. GTSRB, EMNIST, Country211")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="its arguments, e.g. {split: letters} of EMNIST"
    )

    def load(self, name: str, root: Path, fetch: bool) -> DataSet:
        """See :meth:`LibraryConfig.load`."""
        splits = (self.train_split, self.test_split)
        return torchvision_set(self.dataset, self.arguments, splits, root, fetch)


class HuggingFaceConfig(LibraryConfig):
    """An image data set of the Hugging Face hub, or local Parquet files."""

    summary: ClassVar[str] = "any image data set of the Hugging Face hub by its id, or Parquet"

    dataset: str = Field(description="an id, e.g. uoft-cs/cifar10; or a Parquet file or folder")
    subset: str | None = Field(None, description="of a data set that has several (a config)")
    revision: str | None = Field(None, description="a commit of it; default: the newest")
    image: str | None = Field(None, description="the column of the images; default: the first")
    label: str | None = Field(None, description="the column of the labels; default: the first")

    def load(self, name: str, root: Path, fetch: bool) -> DataSet:
        """See :meth:`LibraryConfig.load`."""
        keys = ("subset", "revision", "image", "label", "train_split", "test_split")
        settings = {key: getattr(self, key) for key in keys}
        return hub_set(self.dataset, settings, root, fetch)
