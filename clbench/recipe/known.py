"""What recipes may say, as cheaply as it can be known: from the file of it, or from the classes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic_core import SchemaError

from clbench.plugins.installed import load_installed
from clbench.plugins.loading import LOADED
from clbench.recipe.classes import RecipeClasses
from clbench.recipe.sketch import sketch, table

_Said = TypeVar("_Said")


def is_early() -> bool:
    """Whether the file says it all: torch is not imported yet, and no plugin has brought a row."""
    load_installed()
    return not LOADED and "torch" not in sys.modules


def classes() -> RecipeClasses[Any]:
    """The classes that recipes are read by, or their outline where that will do."""
    if is_early():
        return sketch()
    from clbench.recipe.recipe import CLASSES

    return CLASSES


def said(what: str, made: Callable[[], _Said]) -> _Said:
    """An entry of the file beside the classes; or the same, made of what plugins have added to.

    Args:
        what: its key.
        made: makes it.
    """
    return table()[what] if is_early() else made()  # type: ignore[no-any-return]


def check_early(values: Mapping[str, Any]) -> None:
    """Refuse what can be known to be wrong with a recipe before torch is imported.

    Args:
        values: as read from YAML.

    Raises:
        ClbenchError: as where the recipe is read.
    """
    if is_early():
        try:
            sketch().read(values)
        except SchemaError:  # a release of pydantic that writes validators in another way
            return
