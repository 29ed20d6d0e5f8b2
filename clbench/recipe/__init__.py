"""The recipe: typed, checked settings of a run."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.recipe.recipe import Recipe as Recipe
    from clbench.recipe.recipe import fields as fields
    from clbench.recipe.recipe import merge as merge
    from clbench.recipe.recipe import parse as parse


def __getattr__(name: str) -> Any:
    # Import paths that users know; late, so that a package costs no more than what is used of it.
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(import_module("clbench.recipe.recipe"), name)
