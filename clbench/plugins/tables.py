"""What a plugin can bring: rows for the tables of methods, streams and what else a recipe names.

A plugin is a file, or a module, with tables of clbench's own names::

    METHODS = {"leash": Leash}

An installed package brings the same by entry points: ``leash = "my_package:Leash"`` in the group
``clbench.methods``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clbench.data.datasets import DATASETS
from clbench.errors import shown
from clbench.methods import METHODS
from clbench.methods.base import Method
from clbench.metrics import METRICS
from clbench.metrics.base import TaskMetric
from clbench.record.loggers import LOGGERS, RunLogger
from clbench.streams import STREAMS, StreamConfig

#: What makes a Lightning callback, from keyword arguments that the recipe gives; none are built in.
CALLBACKS: dict[str, Callable[..., Any]] = {}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Kind:
    """One of the tables.

    Attributes:
        table: its name, in a plugin as in clbench.
        rows: clbench's own, which those of plugins are put into.
        base: what a row must be a subclass of; None: anything that can be called.
    """

    table: str
    rows: dict[str, Any]
    base: type | None = None

    @property
    def group(self) -> str:
        """The group of entry points."""
        return f"clbench.{self.table.lower()}"

    def wrong(self, name: object, row: object) -> str:
        """What is wrong with a row, after its place; empty if nothing is."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return "names are small letters, digits and _, as in my_method"
        if self.base is None:
            return "" if callable(row) else f"must be a function or class, got {shown(row)}"
        if not isinstance(row, type) or not issubclass(row, self.base):
            return f"must be a subclass of {self.base.__name__}, got {shown(row)}"
        if inspect.isabstract(row):
            lacking = ", ".join(sorted(getattr(row, "__abstractmethods__", ())))
            return f"{row.__name__} lacks {lacking}"
        if self.base is not TaskMetric and not isinstance(getattr(row, "summary", None), str):
            return f"{row.__name__} needs a summary, a line for --list"
        return ""


KINDS = (
    Kind("METHODS", METHODS, Method),
    Kind("STREAMS", STREAMS, StreamConfig),
    Kind("DATASETS", DATASETS),
    Kind("METRICS", METRICS, TaskMetric),
    Kind("LOGGERS", LOGGERS, RunLogger),
    Kind("CALLBACKS", CALLBACKS),
)
TABLES: Mapping[str, Kind] = {kind.table: kind for kind in KINDS}
