"""clbench: continual learning with pretrained vision models, measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.comparison import compare
    from clbench.recipe import Recipe
    from clbench.record import Record
    from clbench.report.compare import Comparison
    from clbench.runner import run

__version__ = "0.1.0"
__all__ = ["Comparison", "Recipe", "Record", "__version__", "compare", "run"]

_HOME = {
    "run": "clbench.runner",
    "Record": "clbench.record",
    "Recipe": "clbench.recipe",
    "compare": "clbench.comparison",
    "Comparison": "clbench.report.compare",
}


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import; `clbench.scores` alone should not pay for it.
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'clbench' has no attribute {name!r}")
