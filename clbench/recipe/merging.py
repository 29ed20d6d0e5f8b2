"""Values of a recipe put on top of others, before they are read as a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from clbench.methods import METHODS

#: Mappings whose keys are the user's.
OPEN = (
    *("methods", "loggers", "callbacks", "options", "trainer", "per_task", "arguments"),
    *("plugins_sha256", "measures", "sets"),
)


@final
class Instead(dict[str, Any]):
    """A mapping that takes the place of the one it is put on, and is not merged with it."""


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put ``changes`` on top of ``base``; mappings merge key by key, other values replace.

    A section whose ``name`` changes starts anew, as the old fields belong to the old name. A
    method set to null is taken out. An empty mapping clears one whose keys are the user's
    (:data:`OPEN`): ``methods: {}`` is no methods. :class:`Instead` clears it and fills it again.

    >>> merge({"stream": {"name": "a", "tasks": 2}}, {"stream": {"tasks": 5}})
    {'stream': {'name': 'a', 'tasks': 5}}
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            renamed = "name" in value and value["name"] != old.get("name")
            anew = renamed or isinstance(value, Instead) or (not value and key in OPEN)
            merged[key] = dict(value) if anew else merge(old, value)
            if key == "methods":
                # A name that is no method's stays, to be refused.
                merged[key] = {
                    k: v for k, v in merged[key].items() if v is not None or k not in METHODS
                }
        else:
            merged[key] = dict(value) if isinstance(value, Instead) else value
    # Length is given one way: the later one wins.
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
        if given in changes and other not in changes and other in merged:
            merged[other] = None
    return merged


def put_on(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values with others in place, also where a task has settings of its own."""
    tasks = values.get("per_task") or {}
    own = {task: _without(fields, over) for task, fields in tasks.items()}
    return merge({**values, **({"per_task": own} if tasks else {})}, over)


def _without(fields: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not overridden; ``epochs`` and ``steps`` stand for each other."""
    gone = set(over) | ({"epochs", "steps"} if {"epochs", "steps"} & set(over) else set())
    left: dict[str, Any] = {}
    for key, value in fields.items():
        inner = over.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            left[key] = _without(value, inner)
        elif key not in gone:
            left[key] = value
    return left
