"""What all settings have in common: unknown keys are errors, and values are what they look like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from clbench.text.textfile import home

SCALARS = (bool, int, float, str, Path, NoneType)
#: What YAML 1.1 took for true and false, and people go on writing.
SWITCHES = {"yes", "no", "on", "off", "true", "false"}


class Section(BaseModel):
    """A part of the recipe: unknown keys are errors, values do not change.

    A number is no text, a text no number, and true and false are neither; ``~`` at the start of a
    path is the user's home.
    """

    # Validators are built for those settings alone that are read: there are some hundred kinds.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds_of(cls, info.field_name or "")
        if kinds and object not in kinds:
            _check(value, kinds)
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _as_meant(cls, value: Any) -> Any:
        if isinstance(value, Path):
            return Path(home(str(value)))
        if isinstance(value, Mapping):
            _check_finite(value)
        if isinstance(value, list) and any(isinstance(one, Path) for one in value):
            return [Path(home(str(one))) if isinstance(one, Path) else one for one in value]
        return value


def kinds(annotation: Any) -> frozenset[type]:
    """The types of the scalars that a field takes, those in its lists included.

    Mappings and sections add nothing; ``object`` stands for anything else.

    >>> sorted(kind.__name__ for kind in kinds(float | list[str] | None))
    ['NoneType', 'float', 'str']
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        return kinds(get_args(annotation)[0])
    if origin is Literal:
        return frozenset(type(value) for value in get_args(annotation))
    if origin in (Union, UnionType, list, tuple, set, frozenset, Sequence):
        inner = [kinds(one) for one in get_args(annotation) if one is not Ellipsis]
        return frozenset().union(*inner)
    if origin is not None or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return frozenset()
    return frozenset({annotation if annotation in SCALARS else object})


@cache
def _kinds_of(cls: type[BaseModel], name: str) -> frozenset[type]:
    info = cls.model_fields.get(name)
    return frozenset() if info is None else kinds(info.annotation)


def _check_finite(value: Any) -> None:
    """Refuse infinite numbers in free mappings: no record can hold them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "methods":  # of one task: checked as the methods' fields
                _check_finite(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_finite(inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("finite", "should hold finite numbers only")


def _check(value: Any, kinds: frozenset[type]) -> None:
    if isinstance(value, list | tuple):
        for one in value:
            _check(one, kinds)
        return
    text, number = bool(kinds & {str, Path}), bool(kinds & {int, float})
    wanted = "a number" if float in kinds else "an integer" if number else "true or false"
    if isinstance(value, bool):
        if bool in kinds:
            return
        wrong = "text: put it into quotes" if text else f"{wanted}, not true or false"
    elif isinstance(value, str):
        if text and (value or str in kinds):
            return
        if bool in kinds and value.lower() in SWITCHES:
            return
        wrong = "a path, which is empty" if text else f"{wanted}, not a text"
    elif isinstance(value, int | float):
        if number:
            return
        wrong = "text, not a number: put it into quotes" if text else wanted
    else:
        return
    raise PydanticCustomError("kind", f"should be {wrong}")  # type: ignore[misc]
