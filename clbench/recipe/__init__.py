"""The recipe: typed, checked settings of a run."""

from typing import TYPE_CHECKING

from clbench import late

if TYPE_CHECKING:
    from clbench.recipe.merging import merge as merge
    from clbench.recipe.recipe import Recipe as Recipe
    from clbench.recipe.recipe import parse as parse

__getattr__ = late("clbench.recipe.recipe")
