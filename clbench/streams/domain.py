"""Domain-incremental streams: all classes of one data set in every task, their pixels rearranged.

[0] Kirkpatrick et al., *Overcoming catastrophic forgetting in neural networks*: permuted MNIST, a
    permutation of its own for every task.
[1] Lopez-Paz & Ranzato, *Gradient episodic memory for continual learning*: 20 tasks of permuted
    MNIST, and 20 of MNIST rotated by an angle between 0 and 180 degrees.
[2] van de Ven & Tolias, *Three scenarios for continual learning*: permuted MNIST in 10 tasks,
    domain-incremental: one head of ten outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from torch import Tensor

from clbench.data.arranged import permutations, rotations
from clbench.data.datasets import DataSet
from clbench.streams.assemble import assemble
from clbench.streams.base import Group, Stream
from clbench.streams.divide import Classes
from clbench.streams.single import SingleConfig
from clbench.streams.storage import DISK, Shelf, Storage

Angle = Annotated[float, Field(ge=-360, le=360, allow_inf_nan=False)]


@dataclass(frozen=True)
class Domains:
    """What one name of the tables stands for; ``setting`` is the default of its field."""

    dataset: str
    setting: Any
    summary: str


PERMUTED = {
    "permuted_digits": Domains("digits", 5, "scikit-learn's 8x8 digits, pixels permuted, 5 tasks"),
    "permuted_mnist": Domains(
        "mnist", 10, "MNIST, pixels permuted, in 10 tasks of the same classes"
    ),
}
ROTATED = {
    "rotated_digits": Domains(
        "digits", [0, 30, 60, 90, 120], "scikit-learn's 8x8 digits, rotated, in 5 tasks"
    ),
    "rotated_mnist": Domains(
        "mnist", list(range(0, 180, 9)), "MNIST, rotated, in 20 tasks of the same classes"
    ),
}


class DomainConfig(SingleConfig, ABC):
    """All classes of one data set in every task; one head, and the task is never told."""

    #: By name, and the field that a row sets.
    rows: ClassVar[dict[str, Domains]]
    setting: ClassVar[str]

    pretrain_classes: Classes = Field(
        [],
        description="classes set apart, by name or number: for `model.weights: pretrain`, and for "
        "retention; their pixels stay in place",
    )
    leave_out: Classes = Field([], description="classes that are not used, by name or number")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("name") in cls.rows:
            return {cls.setting: cls.rows[values["name"]].setting} | values
        return values

    @property
    def shares_labels(self) -> bool:
        """Always."""
        return True

    @abstractmethod
    def task_names(self) -> list[str]:
        """The tasks' names."""

    @abstractmethod
    def arrangements(self, side: int) -> Tensor:
        """Of the pixels, int64 (tasks, side²), see :class:`ArrangedImages`."""

    def data_set(self, data_dir: Path, shelf: Shelf) -> DataSet:
        """See :meth:`SingleConfig.data_set`."""
        return shelf.load(self.rows[self.name].dataset, data_dir, self.download)

    def build(self, data_dir: Path, storage: Storage, shelf: Shelf = DISK) -> Stream:
        """See :meth:`StreamConfig.build`."""
        data = self.data_set(data_dir, shelf)
        labels, apart = self.usable(data)
        groups = [
            Group(name, 0, tuple(labels), arrangement)
            for arrangement, name in enumerate(self.task_names())
        ]
        own = type(self).model_fields.keys() - DomainConfig.model_fields.keys()
        return assemble(
            self,
            [data],
            groups,
            data_dir,
            storage,
            apart,
            about={"pixels": self.model_dump(mode="json", include=set(own))},
            arrange=self.arrangements,
            shelf=shelf,
        )


class PermutedConfig(DomainConfig):
    """In every task, the pixels of all images are permuted in the same random way [0, 1, 2]."""

    summary: ClassVar[str] = "the classes of one data set in every task, pixels permuted"
    rows: ClassVar[dict[str, Domains]] = PERMUTED
    setting: ClassVar[str] = "tasks"

    tasks: int = Field(ge=1, le=1000, description="number of tasks, a permutation each")
    first: Literal["permuted", "identity"] = Field(
        "permuted",
        description="the first task: permuted as the others are, or the images as they are",
    )
    order_seed: int = Field(
        0, ge=0, description="draws the permutations, whatever the seed of a run"
    )

    def task_names(self) -> list[str]:
        """See :meth:`DomainConfig.task_names`."""
        names = [f"permutation {number}" for number in range(1, self.tasks + 1)]
        return ["identity", *names[1:]] if self.first == "identity" else names

    def arrangements(self, side: int) -> Tensor:
        """See :meth:`DomainConfig.arrangements`."""
        return permutations(side, self.tasks, self.order_seed, self.first == "identity")


class RotatedConfig(DomainConfig):
    """In every task, all images are rotated by one angle [1].

    The authors of [1] draw each task's angle from a twentieth of 0…180 degrees; here the default
    is where that begins, so that the stream is the same for everybody. Rotation is to the nearest
    pixel, as theirs is, of the images as they are stored.
    """

    summary: ClassVar[str] = "the classes of one data set in every task, rotated"
    rows: ClassVar[dict[str, Domains]] = ROTATED
    setting: ClassVar[str] = "angles"

    angles: list[Angle] = Field(
        min_length=1,
        max_length=1000,
        description="of each task in order, in degrees, counter-clockwise",
    )

    @field_validator("angles")
    @classmethod
    def _different(cls, angles: list[float]) -> list[float]:
        if len({f"{angle % 360:g}" for angle in angles}) < len(angles):
            raise ValueError("must differ from task to task, and two are the same rotation")
        return angles

    def task_names(self) -> list[str]:
        """See :meth:`DomainConfig.task_names`."""
        return [f"rotation {angle:g}" for angle in self.angles]

    def arrangements(self, side: int) -> Tensor:
        """See :meth:`DomainConfig.arrangements`."""
        return rotations(side, self.angles)
