"""Figures of what is kept of what a network knew, a panel for every measure."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from clbench.record.record import Scenario
from clbench.report.drawing import (
    FAINT,
    GREY,
    PERCENT,
    Drawn,
    dress,
    grid,
    legend,
    panels,
    progress,
    short,
    style,
)
from clbench.report.frontier import WHISKERS
from clbench.report.group import Group
from clbench.report.kept_by import measures
from clbench.report.section import Section
from clbench.report.spots import Panel, families, marker_legend, name, scatter, spots

#: Named lines of a figure, and panels.
LINES, MOST = 9, 18


def kept_course(group: Group, measure: str) -> NDArray[np.float64]:
    """Kept after every task (T,), mean over the seeds; NaN where it is not known."""
    count = len(group.runs[0].record.run.tasks)
    found = np.full((len(group.finished), count), np.nan)
    for number, run in enumerate(group.finished):
        course = run.courses.get(measure)
        if course is None or course["kept"] is None:
            continue
        for event, value in zip(run.record.tasks, course["after_task"], strict=True):
            found[number, event.task] = value / course["before"]
    mean: NDArray[np.float64] = found.mean(axis=0)
    return mean


def frontier_by_measure(section: Section, scenario: Scenario) -> Drawn | None:
    """Overall performance against what is kept, a panel a measure, with the way there."""
    found = measures(section)[:MOST]
    shown = [row for row in section.leaderboard(scenario) if row.scores["overall_performance"]]
    if not found or not shown:
        return None
    curves = families(section, scenario)
    figure, axes = grid(len(found), 2.9)
    inches = figure.get_figheight()
    figure.subplots_adjust(top=1 - 0.62 / inches)
    made = []
    for axis, measure in zip(axes, found, strict=True):
        places = []
        for row in shown:
            op, kept = (
                row.scores["overall_performance"],
                row.group.estimate(f"kept:{measure}", scenario),
            )
            if op and kept:
                places.append((row.group, op.mean, kept.mean))
        panel = Panel(axis, spots(places), curves)
        axis.axhline(1, color=GREY, lw=0.8, ls=":", zorder=0)
        if len(places) <= WHISKERS and not section.independent:
            for group, *_ in places:
                _way(panel, progress(group, scenario)[0], kept_course(group, measure))
        scatter(panel)
        dress(axis)
        axis.xaxis.grid(False)  # panels further up have none
        axis.xaxis.set_major_formatter(PERCENT)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        _entitle(axis, measure)
        axis.margins(0.18, 0.12)
        made.append(panel)
    figure.supxlabel(f"overall performance ({section.scenarios[scenario]})", fontsize=9)
    bare = sorted({text for panel in made for text in name(panel, every=len(shown) <= WHISKERS)})
    marker_legend(figure, made)
    text = (
        "What was learned against the share that is kept of what the network knew, by every "
        "measure: the dotted line is the pretrained network; up and to the right is better."
    )
    if not section.independent:
        text += " Thin lines: the way there, after every task (mean accuracy so far)."
    return figure, text + (f" For want of room without a name: {', '.join(bare)}." if bare else "")


def _way(panel: Panel, means: NDArray[Any], kept: NDArray[Any]) -> None:
    """A method's places after every task."""
    known = ~(np.isnan(means) | np.isnan(kept))
    places = [(float(x), float(y)) for x, y in zip(means[known], kept[known], strict=True)]
    if len(places) > 1:
        panel.axis.plot(
            *zip(*places, strict=True), color=FAINT, lw=0.8, marker=".", ms=2, zorder=0.5
        )
        panel.strokes.extend(pairwise(places))


def _entitle(axis: Any, measure: str) -> None:
    axis.set_title(short(measure), fontsize=10)
    if axis.get_subplotspec().is_first_col():
        axis.set_ylabel("kept: after ÷ before", fontsize=9)


def kept_over_tasks(section: Section, scenario: Scenario) -> Drawn | None:
    """What is kept after every task, a panel a measure."""
    found = measures(section)[:MOST]
    named, note = panels(section, scenario, LINES)
    first = next(iter(section.scenarios))  # what is kept is the same in both
    if not found or not named or len(section.tasks) < 2 or scenario != first:
        return None
    figure, axes = grid(len(found), 2.2)
    figure.subplots_adjust(right=0.8)
    after = np.arange(len(section.tasks) + 1)
    handles: dict[str, Line2D] = {}
    for axis, measure in zip(axes, found, strict=True):
        axis.axhline(1, color=GREY, lw=0.8, ls=":", zorder=0)
        for group in named:
            values = kept_course(group, measure)
            start = np.nan if np.isnan(values).all() else 1.0
            look = style(section, group, named)
            (line,) = axis.plot(after, [start, *values], **look, lw=1.3, ms=3.5)
            handles.setdefault(group.label, line)
        dress(axis)
        axis.xaxis.grid(False)
        _entitle(axis, measure)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel("after task (0: pretrained)", fontsize=9)
    legend(figure, list(handles.values()), list(handles), 22)
    return figure, (
        "The share that is kept of what the network knew after every task, by every measure, means "
        f"over seeds.{note}"
    )
