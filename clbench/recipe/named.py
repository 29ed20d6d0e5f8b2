"""What a recipe names: rows of tables, as of streams, methods and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from clbench.errors import shown
from clbench.explain import nearest, within

_Model = TypeVar("_Model", bound=BaseModel)


def name_in(value: Any, section: str) -> str:
    """The name that a section's values have.

    Raises:
        PydanticCustomError: if they have none.
    """
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return str(value["name"])
    raise PydanticCustomError("name", f"needs a name, as in {section}: {{name: split_digits}}")


def by_name(table: Mapping[str, Any], name: str, kind: str) -> Any:
    """The row of a table.

    Raises:
        PydanticCustomError: if there is none of the name.
    """
    if name not in table:
        raise PydanticCustomError(
            "name", f"there is no {kind} {shown(name)}{nearest(name, list(table))}; see --list"
        )
    return table[name]


def named_rows(value: Any, example: str) -> dict[str, Any]:
    """Names to settings, from a list of names, or of names with settings; or a mapping of them.

    >>> named_rows(["csv", {"wandb": {"project": "mine"}}], "csv")
    {'csv': None, 'wandb': {'project': 'mine'}}

    Raises:
        PydanticCustomError: if it is none, or has a name twice; with the example.
    """
    if isinstance(value, Mapping):
        return dict(value)
    found: dict[str, Any] = {}
    for row in value if isinstance(value, list | tuple) else [value]:
        one = {row: None} if isinstance(row, str) else row
        if not isinstance(one, Mapping) or len(one) != 1:
            raise PydanticCustomError(
                "row",
                f"must be a list of names or of single names with settings, as in [{example}]",
            )
        (name,) = one
        if name in found:
            raise PydanticCustomError("row", f"has {name} twice")
        found |= one
    return found


def model_of(name: str, cls: type[_Model], values: Any) -> _Model:
    """A model of values that stand under a name; null for its defaults.

    Raises:
        ValidationError: if they do not fit, with the name.
    """
    try:
        return cls.model_validate({} if values is None else values)
    except ValidationError as error:
        raise within(name, cls.__name__, error) from error


def models_of(
    rows: Mapping[str, Any], table: Mapping[str, type[_Model]], base: type[_Model], kind: str
) -> dict[str, _Model]:
    """The models of rows of a table, by name; what is a model already stays.

    Args:
        rows: names to settings.
        table: their classes by name.
        base: of the classes.
        kind: what a row is called.

    Raises:
        PydanticCustomError: if there is none of a name.
        ValidationError: if settings do not fit.
    """
    return {
        name: given
        if isinstance(given, base)
        else model_of(name, by_name(table, name, kind), given)
        for name, given in rows.items()
    }


def stream_by_name(value: Any, table: Mapping[str, type[BaseModel]]) -> BaseModel:
    """The model of a recipe's ``stream``, whose name decides its class.

    Raises:
        PydanticCustomError: if it has no name, or there is none of it.
        ValidationError: if its fields do not fit.
    """
    return by_name(table, name_in(value, "stream"), "stream").model_validate(value)  # type: ignore[no-any-return]


def methods_by_name(
    value: Any, table: Mapping[str, type[_Model]], base: type[_Model]
) -> dict[str, _Model]:
    """The models of a recipe's ``methods``, in order; errors as of :func:`models_of`."""
    if not isinstance(value, Mapping):
        raise PydanticCustomError("methods", "must map names to settings, as in {sfa: {p: 0.98}}")
    return models_of(value, table, base, "method")


def loggers_by_name(
    value: Any, table: Mapping[str, type[_Model]], base: type[_Model]
) -> dict[str, _Model]:
    """The models of a recipe's ``loggers``; errors as of :func:`models_of`."""
    return models_of(named_rows(value, "tensorboard, {csv: {}}"), table, base, "logger")


def measures_by_name(
    value: Any, table: Mapping[str, type[_Model]], base: type[_Model]
) -> dict[str, _Model]:
    """The models of ``measures``; errors as of :func:`models_of`."""
    return models_of(named_rows(value, "head, {knn: {k: 20}}"), table, base, "measure of retention")


def metrics_by_name(names: Sequence[str], table: Mapping[str, Any]) -> tuple[str, ...]:
    """A recipe's ``metrics``, each once.

    Raises:
        PydanticCustomError: if there is none of a name.
    """
    for name in names:
        by_name(table, name, "metric")
    return tuple(dict.fromkeys(names))
