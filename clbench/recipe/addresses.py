"""To whom a recipe's loggers speak, and that a stranger's run folder does not decide it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from clbench.errors import ClbenchError, shown
from clbench.recipe.named import named_rows
from clbench.record.loggers import LOGGERS


def addresses(values: Mapping[str, Any]) -> dict[str, str]:
    """Addresses in plain values of a recipe, by their dotted names."""
    try:
        given = named_rows(values.get("loggers") or {}, "")
    except PydanticCustomError:  # refused where it is read
        return {}
    return {
        f"loggers.{name}.{field}": str(settings[field])
        for name, settings in given.items()
        if isinstance(settings, Mapping) and name in LOGGERS
        for field in LOGGERS[name].addresses
        if settings.get(field)
    }


def refuse_unknown(values: Mapping[str, Any], known: Mapping[str, str]) -> None:
    """Refuse addresses that only a run folder names, as it may be anybody's.

    Args:
        values: of a recipe.
        known: addresses that the user has named, as :func:`addresses`.

    Raises:
        ClbenchError: naming the address, and how to name it.
    """
    for name, address in addresses(values).items():
        if known.get(name) != address:
            raise ClbenchError(
                f"{name} = {shown(address)} would be told of the run, and what a run folder names "
                f"could be anybody's: if you know it, add --{name} {address}; or --loggers csv"
            )
