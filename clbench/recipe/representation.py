"""The recipe's section on what features still tell of earlier tasks, after every task."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from clbench.metrics.retained import MEASURES
from clbench.metrics.retained.base import Classifier, Measure
from clbench.recipe.retention import Measures
from clbench.settings import Section


class Representation(Section):
    """Classifiers made anew of the features of each task so far: what its head may have lost."""

    measures: Measures = Field(
        default_factory=dict,
        description="ridge, knn, ncm: classifiers that each task's training images make anew after "
        "every task, asked about its test images; names, or names with settings; default: none",
    )
    per_class: int | None = Field(
        None, ge=1, description="make them of at most so many training images of a class"
    )

    @field_validator("measures")
    @classmethod
    def _classifiers(cls, measures: Mapping[str, Measure]) -> Mapping[str, Measure]:
        able = ", ".join(name for name, kind in MEASURES.items() if issubclass(kind, Classifier))
        for name, measure in measures.items():
            if not isinstance(measure, Classifier):
                raise PydanticCustomError(
                    "measures",
                    f"has {name}, which makes no classifier of a task's classes: "  # type: ignore[misc]
                    f"take some of {able}",
                )
        return measures
