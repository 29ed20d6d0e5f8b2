"""The recipe's section on retention: which images say what became of pretraining, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator
from pydantic_core import PydanticCustomError

from clbench.data.datasets import DATASETS
from clbench.errors import shown
from clbench.explain import nearest
from clbench.metrics.retained import MEASURES
from clbench.metrics.retained.base import Measure
from clbench.metrics.retained.head import OriginalHead
from clbench.recipe.named import measures_by_name
from clbench.settings import Section
from clbench.text.names import wrong_name
from clbench.text.textfile import home


def _measures(value: Any) -> dict[str, Measure]:
    return measures_by_name(value, MEASURES, Measure)


def _usual() -> dict[str, Measure]:
    return {"head": OriginalHead()}


#: Names, or names with settings: ``[head, {knn: {k: 20}}]``; a mapping of them is the same.
Measures = Annotated[dict[str, SerializeAsAny[Measure]], BeforeValidator(_measures)]


def _folder(given: str | None) -> str | None:
    if given == "":
        raise PydanticCustomError("folder", "should be a folder, and is empty")
    return None if given is None else home(given)


class RetentionSet(Section):
    """Images of one's own that a network should go on telling apart."""

    data: str | None = Field(None, description="folder of class folders; or dataset")
    dataset: str | None = Field(
        None,
        description="one of the data sets that clbench data lists: its test images are asked "
        "about, and the labels are learned from its training images",
    )
    per_class: int | None = Field(
        None, ge=1, description="at most so many images of a class to ask about and to learn from"
    )
    train: str | None = Field(
        None, description="folder of the same classes to learn the labels from; see retention.train"
    )
    measures: Measures = Field(
        default_factory=dict,
        description="default: those of retention.measures that can be measured here",
    )

    _at_home = field_validator("data", "train")(_folder)

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in DATASETS:
            near = nearest(name, list(DATASETS))
            raise PydanticCustomError(
                "dataset",
                f"there is no data set {shown(name)}{near}: clbench data lists them",  # type: ignore[misc]
            )
        return name

    @model_validator(mode="after")
    def _one_source(self) -> RetentionSet:
        if (self.data is None) == (self.dataset is None) or (self.dataset and self.train):
            raise PydanticCustomError(
                "source", "needs either data, a folder, with train if you like, or dataset, a name"
            )
        return self


class Retention(Section):
    """What the backbone was pretrained for, and how well it still does it, after every task."""

    data: str = Field(
        "auto",
        description="auto: the pretraining classes, or ImageNet images in "
        "<data_dir>/imagenet/val/<wnid>/ if there; none; or a folder of wnid folders (of any class "
        "folders, where no measure is the head)",
    )
    train: str | None = Field(
        None,
        description="folder of the same classes, from which knn, ridge and ncm learn the labels; "
        "default: every second image of each class of data, and the others are asked about",
    )
    measures: Measures = Field(
        default_factory=_usual,
        description="head: the original one; knn, ridge, ncm, cka: of the features, for any "
        "backbone; zero_shot: by texts, for CLIP; names, or names with settings: "
        "[head, {knn: {k: 20}}]",
    )
    sets: dict[str, RetentionSet] = Field(
        default_factory=dict,
        description="more image folders and data sets to measure on, by names of your own: "
        "{birds: {data: photos/birds, measures: [knn]}, svhn: {dataset: svhn, per_class: 50}}",
    )
    batch_norm: Literal["current", "pretrained"] = Field(
        "current",
        description="pretrained: put the original BatchNorm parameters and statistics back",
    )

    transform: Literal["stored", "timm"] = Field(
        "stored",
        description="how ImageNet's images are scaled. stored: as the stream's, at images.size "
        "(JPEG decoded at a reduced scale, bicubic); timm: as timm evaluates the weights, at their "
        "own size, so that published accuracies can be met",
    )

    _train_at_home = field_validator("train")(_folder)

    @field_validator("data")
    @classmethod
    def _folder_at_home(cls, data: str) -> str:
        if not data:
            raise PydanticCustomError("data", "should be auto, none or a folder, and is empty")
        return home(data)

    @field_validator("measures")
    @classmethod
    def _some(cls, measures: Mapping[str, Measure]) -> Mapping[str, Measure]:
        if not measures:
            raise PydanticCustomError("measures", "is empty: to measure nothing, say data: none")
        return measures

    @field_validator("sets")
    @classmethod
    def _names_of_sets(cls, sets: Mapping[str, RetentionSet]) -> Mapping[str, RetentionSet]:
        for name in sets:
            if wrong := wrong_name(name) or (name in MEASURES and "is the name of a measure"):
                raise PydanticCustomError("name", f"{name!r} {wrong}")  # type: ignore[misc]
        return sets

    @property
    def off(self) -> bool:
        """Whether nothing is to be measured."""
        return self.data == "none" and not self.sets
