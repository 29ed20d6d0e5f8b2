"""What a recipe attaches to Lightning's Trainer by name: loggers and callbacks.

A row is a name, or a name with settings: ``[csv, {wandb: {project: mine}}]``. A mapping of names to
settings is the same. New ones are rows of the plugins' tables ``LOGGERS`` (subclasses of
:class:`~clbench.record.loggers.RunLogger`) and ``CALLBACKS``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

import lightning as L
from pydantic import BeforeValidator, Field, SerializeAsAny
from pydantic_core import PydanticCustomError

from clbench.errors import ClbenchError, reason, shown
from clbench.explain import nearest
from clbench.plugins.tables import CALLBACKS
from clbench.recipe.named import loggers_by_name, named_rows
from clbench.record.loggers import LOGGERS, RunLogger, TensorBoard

__all__ = ["CALLBACKS", "LOGGERS", "CallbackRows", "LoggerRows", "make_callbacks"]


def _loggers(value: Any) -> dict[str, RunLogger]:
    return loggers_by_name(value, LOGGERS, RunLogger)  # type: ignore[type-abstract]


def _callbacks(value: Any) -> dict[str, dict[str, Any]]:
    found = {}
    for name, given in named_rows(value, "my_callback, {other: {every: 5}}").items():
        if name not in CALLBACKS:
            near = nearest(str(name), list(CALLBACKS))
            words = f"there is no callback {shown(name)}{near}; plug-ins bring them by name"
            raise PydanticCustomError("callback", words)  # type: ignore[misc]
        make = CALLBACKS[name]
        arguments = {} if given is None else given
        if not isinstance(arguments, Mapping):
            raise PydanticCustomError("callback", f"{name} must map arguments to values")
        try:
            inspect.signature(make).bind(**arguments)
        except TypeError as error:
            known = list(inspect.signature(make).parameters)
            near = "".join(nearest(str(key), known) for key in arguments if key not in known)
            raise PydanticCustomError("callback", f"{name}: {reason(error)}{near}") from error
        found[name] = dict(arguments)
    return found


def _usual() -> dict[str, RunLogger]:
    return {"tensorboard": TensorBoard()}


#: Fields of a recipe.
LoggerRows = Annotated[
    dict[str, SerializeAsAny[RunLogger]],
    BeforeValidator(_loggers),
    Field(
        default_factory=_usual,
        description="who hears what is measured, beside the record: tensorboard, csv, wandb, "
        "mlflow; names, or names with settings",
    ),
]
CallbackRows = Annotated[
    dict[str, dict[str, Any]],
    BeforeValidator(_callbacks),
    Field(default_factory=dict, description="Lightning callbacks of plug-ins by name, in order"),
]


def make_callbacks(callbacks: Mapping[str, Mapping[str, Any]]) -> list[L.Callback]:
    """New callbacks for a Trainer, from those of a recipe.

    Raises:
        ClbenchError: if one cannot be made, or is none.
    """
    return [_callback(name, given) for name, given in callbacks.items()]


def _callback(name: str, given: Mapping[str, Any]) -> L.Callback:
    try:
        made = CALLBACKS[name](**given)
    except Exception as error:  # a plugin's own code
        raise ClbenchError(
            f"callbacks.{name} = {shown(dict(given))} cannot be made ({type(error).__name__}: "
            f"{reason(error)[:300]}): change its arguments, or leave it out"
        ) from error
    if not isinstance(made, L.Callback):
        raise ClbenchError(f"callbacks.{name} makes {shown(made)}, which is no Lightning callback")
    return made
