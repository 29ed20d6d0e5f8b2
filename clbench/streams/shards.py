"""A stream from shards: tar archives in WebDataset's layout, or Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from clbench.data.datasets import DataSet
from clbench.data.datasets.shards import shard_set
from clbench.streams.divide import TASKS, Sizes
from clbench.streams.single import DividedSetConfig
from clbench.streams.storage import Shelf


class ShardsConfig(DividedSetConfig):
    """Large data in few files, read in their order where they lie."""

    summary: ClassVar[str] = "tar shards as WebDataset has them, or Parquet files with images"
    compares: ClassVar[bool] = True

    train: Path | list[Path] = Field(
        description="shards: a file, a folder of them, a pattern (train-*.tar, "
        "train-{0000..0146}.tar), or a list of these"
    )
    test: Path | list[Path] | None = Field(
        None, description="the same for the test images; default: every fifth image of each class"
    )
    image: str | None = Field(
        None,
        description="ending of a sample's image in tar shards, e.g. left.png, or column of Parquet "
        "files; default: the one there is",
    )
    label: str | None = Field(
        None,
        description="of tar shards: cls, or the key of a sample's .json; of Parquet files: the "
        "column. Default: cls, else label",
    )
    names: Path | None = Field(
        None,
        description="a text file with the name of a class in each line, from 0; default: what the "
        "shards say, or the numbers",
    )
    tasks: Sizes = Field(1, description=TASKS)

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_classes(cls, values: Any) -> Any:
        groups = values.get("classes") if isinstance(values, dict) else None
        return {"tasks": len(groups), **values} if isinstance(groups, list) and groups else values

    @field_validator("image")
    @classmethod
    def _without_its_dot(cls, value: str | None) -> str | None:
        return None if value is None else value.removeprefix(".")

    @field_validator("train", "test")
    @classmethod
    def _some(cls, value: Path | list[Path] | None) -> Path | list[Path] | None:
        if value == []:
            raise ValueError("must name a shard")
        return value

    def data_set(self, data_dir: Path, shelf: Shelf) -> DataSet:
        """See :meth:`SingleConfig.data_set`."""
        train = self.train if isinstance(self.train, list) else [self.train]
        test = self.test if isinstance(self.test, list | None) else [self.test]

        def load(name: str, root: Path, fetch: bool) -> DataSet:
            return shard_set(train, test, self.image, self.label, self.names, root)

        return shelf.load("shards", data_dir, False, load)
