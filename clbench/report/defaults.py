"""What the recipe's classes say, kept in a file: reports do without them, and without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from clbench.record.retained import HEAD

PLACE = Path(__file__).with_name("defaults.json")


def of_recipe() -> dict[str, Any]:
    """The defaults of a recipe's keys, those of the methods included."""
    return _table()["recipe"]


def of_stream(name: str) -> dict[str, Any]:
    """The defaults of a stream's keys."""
    return _table()["streams"].get(name, {})


def measured(name: str, settings: Mapping[str, Any]) -> str:
    """Settings of a measure of retention that are not the defaults, as `` (k=5)``.

    Those of the original head are no part of its name.

    Args:
        name: of the measure, as in ``birds/knn`` where it is of a set.
        settings: of the run, by dotted keys.
    """
    where, _, measure = name.rpartition("/")
    usual = {} if name == HEAD else _table()["measures"].get(measure, {})
    given, own = "retention.measures.", f"retention.sets.{where}.measures."
    if where and any(key.startswith(own) for key in settings):
        given = own
    return _unusual(settings, f"{given}{measure}.", usual)


def probed(name: str, settings: Mapping[str, Any]) -> str:
    """The same of a classifier that is made anew, and of the images that make it.

    >>> probed("knn", {"representation.measures.knn.k": 1, "representation.per_class": 5})
    ' (k=1, per_class=5)'
    """
    section = "representation."
    own = _unusual(settings, f"{section}measures.{name}.", _table()["measures"].get(name, {}))
    shared = _unusual(settings, section, {"per_class": None})
    return (own + shared).replace(") (", ", ")


def _unusual(settings: Mapping[str, Any], where: str, usual: Mapping[str, Any]) -> str:
    """Settings that differ from the usual ones, as `` (k=5)``; empty if none do."""
    found = {key: settings.get(where + key, default) for key, default in usual.items()}
    told = [f"{key}={value}" for key, value in found.items() if value != usual[key]]
    return f" ({', '.join(told)})" * bool(told)


def traits_of(method: str) -> Sequence[str] | None:
    """What a method says of itself; None if it is unknown."""
    return _table()["traits"].get(method)


@cache
def _table() -> dict[str, dict[str, Any]]:
    return json.loads(PLACE.read_text("utf-8"))
