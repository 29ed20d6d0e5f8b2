"""clbench: continual learning with pretrained vision models, measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar, final

# Threads that wait for each other spin by default. Where anything else runs on the machine, they
# then take the time of those they wait for: steps of a small network were seen to take 20 times as
# long. Must be set before torch is imported; a value of the user's own stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from clbench.recipe.recipe import Recipe
    from clbench.report.compare import Comparison
    from clbench.report.run_view import RunView as Record
    from clbench.runner.runner import run
    from clbench.suite.comparison import compare

_Row = TypeVar("_Row")

__version__ = "0.1.0"
__all__ = ["Comparison", "Recipe", "Record", "__version__", "compare", "run"]

_HOME = {
    "run": "clbench.runner.runner:run",
    "Record": "clbench.report.run_view:RunView",  # the record, with what notebooks show of it
    "Recipe": "clbench.recipe.recipe:Recipe",
    "compare": "clbench.suite.comparison:compare",
    "Comparison": "clbench.report.compare:Comparison",
}


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import; `clbench.record.scores` alone should not pay for it.
    if name in _HOME:
        return resolve_name(_HOME[name])
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


@final
class LateTable(MutableMapping[str, _Row]):
    """Rows by name, each made once it is asked for: the names alone cost nothing.

    Args:
        sources: by name, what a row is made of.
        make: makes one, of its name and its source.
    """

    def __init__(self, sources: Mapping[str, Any], make: Callable[[str, Any], _Row]) -> None:
        self._sources, self._make = dict(sources), make
        self._rows: dict[str, _Row] = {}  # what was asked for, or put in

    def name_of(self, row: object) -> str | None:
        """The name of a row that is a class, in a table of :func:`imported`; None: it has none."""
        place = f"{getattr(row, '__module__', '')}:{getattr(row, '__qualname__', '')}"
        for name, source in self._sources.items():
            found = self._rows.get(name)
            if found is row or (found is None and source == place):
                return name
        return None

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, name: str) -> _Row:
        source = self._sources[name]
        if name not in self._rows:
            self._rows[name] = self._make(name, source)
        return self._rows[name]

    def __setitem__(self, name: str, row: _Row) -> None:
        self._sources.setdefault(name, None)
        self._rows[name] = row

    def __delitem__(self, name: str) -> None:
        del self._sources[name]
        self._rows.pop(name, None)


def imported(package: str, places: Mapping[str, str]) -> LateTable[Any]:
    """A table of what is imported once it is asked for.

    Args:
        package: in which the rows are.
        places: of the rows there, as ``module:object``.
    """
    sources = {name: f"{package}.{place}" for name, place in places.items()}
    return LateTable(sources, lambda _, place: resolve_name(place))
