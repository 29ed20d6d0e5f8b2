"""A stream from the user's own image folders."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from clbench.data.datasets import image_folder
from clbench.errors import ClbenchError
from clbench.streams.assemble import assemble
from clbench.streams.base import Group, Storage, Stream, StreamConfig
from clbench.streams.split import divide, task_name


class FolderConfig(StreamConfig):
    """Folders of class folders: one pair divided into tasks, or one pair a task."""

    summary: ClassVar[str] = "your own images: train/<class>/*.jpg and test/<class>/*.jpg"

    train: Path | list[Path] = Field(
        description="a folder of class folders; or a list of them, one a task"
    )
    test: Path | list[Path] = Field(description="the same for the test images")
    tasks: int = Field(1, ge=1, description="number of tasks of equal size (one folder only)")
    order_seed: int | None = Field(
        None, ge=0, description="draws the class order; default: folders in alphabetical order"
    )

    @model_validator(mode="after")
    def _as_many_of_each(self) -> FolderConfig:
        if len(_listed(self.train)) != len(_listed(self.test)):
            raise ValueError("train and test must name as many folders as each other")
        return self

    def build(self, data_dir: Path, storage: Storage) -> Stream:
        """See :meth:`StreamConfig.build`."""
        pairs = list(zip(_listed(self.train), _listed(self.test), strict=True))
        loaded = [image_folder(train, test) for train, test in pairs]
        if len(loaded) == 1:
            classes = loaded[0].classes
            labels = list(range(len(classes)))
            groups = [
                Group(task_name([classes[label] for label in group]), 0, tuple(group))
                for group in divide(labels, self.tasks, self.order_seed, None)
            ]
        elif self.tasks not in (1, len(loaded)):
            raise ClbenchError(
                f"stream.tasks = {self.tasks}, but stream.train lists {len(loaded)} folders, "
                "one a task: leave stream.tasks out"
            )
        else:
            names = [train.name for train, _ in pairs]
            if len(set(names)) < len(names):  # a/train, b/train …
                names = [train.as_posix() for train, _ in pairs]
            groups = [
                Group(name, number, tuple(range(len(loaded[number].classes))))
                for number, name in enumerate(names)
            ]
        return assemble(self, loaded, groups, data_dir, storage)


def _listed(folders: Path | list[Path]) -> list[Path]:
    return folders if isinstance(folders, list) else [folders]
