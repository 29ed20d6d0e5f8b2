"""The figures of a comparison, each with a sentence that says what it shows."""

from __future__ import annotations

from collections.abc import Callable

from clbench.record import Scenario
from clbench.report.compare import Section
from clbench.report.drawing import Drawn
from clbench.report.frontier import frontier, frontier_over_tasks
from clbench.report.over_stream import curves, matrices, over_tasks

PLOTS: dict[str, Callable[[Section, Scenario], Drawn | None]] = {
    "frontier": frontier,
    "frontier_over_tasks": frontier_over_tasks,
    "over_tasks": over_tasks,
    "curves": curves,
    "matrices": matrices,
}
TITLES = {
    "frontier": "New tasks against retention",
    "frontier_over_tasks": "The frontier over tasks",
    "over_tasks": "Performance and retention over tasks",
    "curves": "Every task over the stream",
    "matrices": "Accuracy matrices",
}
