"""The figures of a comparison, each with a sentence that says what it shows."""

from __future__ import annotations

from collections.abc import Callable

from clbench.record.record import Scenario
from clbench.report.bars import all_bars, bars
from clbench.report.comparison import Compared
from clbench.report.drawing import Drawn
from clbench.report.frontier import frontier, frontier_over_tasks
from clbench.report.kept_figures import frontier_by_measure, kept_over_tasks
from clbench.report.over_stream import curves_of_methods, matrices, over_tasks
from clbench.report.section import Section
from clbench.report.trade_off import trade_off

#: Figures of one stream.
PLOTS: dict[str, Callable[[Section, Scenario], Drawn | None]] = {
    "bars": bars,
    "frontier": frontier,
    "frontier_by_measure": frontier_by_measure,
    "trade_off": trade_off,
    "frontier_over_tasks": frontier_over_tasks,
    "over_tasks": over_tasks,
    "kept_over_tasks": kept_over_tasks,
    "curves": curves_of_methods,
    "matrices": matrices,
}
#: Figures of all streams.
POOLED_PLOTS: dict[str, Callable[[Compared, Scenario], Drawn | None]] = {"all_bars": all_bars}
TITLES = {
    "bars": "Overall performance",
    "frontier": "New tasks against retention",
    "frontier_by_measure": "New tasks against what is kept, by every measure",
    "trade_off": "Trade-offs of swept parameters",
    "frontier_over_tasks": "The frontier over tasks",
    "over_tasks": "Performance and retention over tasks",
    "kept_over_tasks": "What is kept over tasks, by every measure",
    "curves": "Every task over the stream",
    "matrices": "Accuracy matrices",
    "all_bars": "Overall performance on every stream",
}
