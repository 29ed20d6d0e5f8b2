"""A run: from a recipe to a finished folder."""

from typing import TYPE_CHECKING

from clbench import late

if TYPE_CHECKING:
    from clbench.runner.runner import Run as Run
    from clbench.runner.runner import run as run

__getattr__ = late("clbench.runner.runner")
