"""clbench: continual learning with pretrained vision models, measured."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

# Threads that wait for each other spin by default. Where anything else runs on the machine, they
# then take the time of those they wait for: steps of a small network were seen to take 20 times as
# long. Must be set before torch is imported; a value of the user's own stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from clbench.recipe.recipe import Recipe
    from clbench.record.record import Record
    from clbench.report.compare import Comparison
    from clbench.runner.runner import run
    from clbench.suite.comparison import compare

__version__ = "0.1.0"
__all__ = ["Comparison", "Recipe", "Record", "__version__", "compare", "run"]

_HOME = {
    "run": "clbench.runner.runner",
    "Record": "clbench.record.record",
    "Recipe": "clbench.recipe.recipe",
    "compare": "clbench.suite.comparison",
    "Comparison": "clbench.report.compare",
}


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import; `clbench.record.scores` alone should not pay for it.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'clbench' has no attribute {name!r}")


def late(module: str) -> Callable[[str], Any]:
    """A package's ``__getattr__``: import paths that users know, found in a module once asked for.

    So a package costs no more than what is used of it.
    """

    def find(name: str) -> Any:
        # Python asks here first for a module of the package's own, too.
        if name.startswith("__") or find_spec(f"{module.rpartition('.')[0]}.{name}"):
            raise AttributeError(name)
        return getattr(import_module(module), name)

    return find
