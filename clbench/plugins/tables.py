"""What a plugin can bring: rows for the tables of methods, streams and what else a recipe names.

A plugin is a file, or a module, with tables of clbench's own names::

    METHODS = {"leash": Leash}

An installed package brings the same by entry points: ``leash = "my_package:Leash"`` in the group
``clbench.methods``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from clbench.errors import shown

#: What makes a Lightning callback, from keyword arguments that the recipe gives; none are built in.
CALLBACKS: dict[str, Callable[..., Any]] = {}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Kind:
    """One of the tables. clbench's own is imported once a plugin brings a row: most need torch.

    Attributes:
        table: its name, in a plugin as in clbench.
        module: where clbench's own is.
        of: what a row must be a subclass of, as ``module:class``; empty: whatever can be called.
        listed: whether a row needs a summary.
    """

    table: str
    module: str
    of: str = ""
    listed: bool = False

    @property
    def rows(self) -> MutableMapping[str, Any]:
        """clbench's own, which those of plugins are put into."""
        return resolve_name(f"{self.module}:{self.table}")  # type: ignore[no-any-return]

    @property
    def base(self) -> type | None:
        """What a row must be a subclass of, if anything."""
        return resolve_name(self.of) if self.of else None

    @property
    def group(self) -> str:
        """The group of entry points."""
        return f"clbench.{self.table.lower()}"

    def wrong(self, name: object, row: object) -> str:
        """What is wrong with a row, after its place; empty if nothing is."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return "names are small letters, digits and _, as in my_method"
        base = self.base
        if base is None:
            return "" if callable(row) else f"must be a function or class, got {shown(row)}"
        if not isinstance(row, type) or not issubclass(row, base):
            return f"must be a subclass of {base.__name__}, got {shown(row)}"
        if inspect.isabstract(row):
            lacking = ", ".join(sorted(getattr(row, "__abstractmethods__", ())))
            return f"{row.__name__} lacks {lacking}"
        if self.listed and not isinstance(getattr(row, "summary", None), str):
            return f"{row.__name__} needs a summary, a line for --list"
        return ""


KINDS = (
    Kind("METHODS", "clbench.methods", "clbench.methods.base:Method", True),
    Kind("STREAMS", "clbench.streams", "clbench.streams.base:StreamConfig", True),
    Kind("DATASETS", "clbench.data.datasets"),
    Kind("METRICS", "clbench.metrics", "clbench.metrics.base:TaskMetric"),
    Kind("LOGGERS", "clbench.record.loggers", "clbench.record.loggers:RunLogger", True),
    Kind("CALLBACKS", __name__),
)
TABLES: Mapping[str, Kind] = {kind.table: kind for kind in KINDS}
