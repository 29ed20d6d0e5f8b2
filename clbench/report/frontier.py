"""Figures of new-task performance against retention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clbench.record.record import Scenario
from clbench.report.drawing import PERCENT, Drawn, dress, progress, ranked
from clbench.report.metrics import METRICS
from clbench.report.section import Section, Standing
from clbench.report.spots import (
    Panel,
    base,
    drawn_in,
    families,
    floor,
    marker_legend,
    name,
    scatter,
    spots,
    whiskers,
)
from clbench.report.statistics import intervals

#: Whiskers of more methods than these hide the points.
WHISKERS = 10


def frontier(section: Section, scenario: Scenario) -> Drawn | None:
    """New-task performance against retention, with intervals and the Pareto front."""
    board = section.leaderboard(scenario)
    shown = [row for row in board if row.scores["retention"] and row.scores["overall_performance"]]
    sides = [
        metric
        for metric in ("learning_accuracy", "overall_performance")
        if any(row.scores[metric] for row in shown)
    ]
    if not shown:
        return None
    if len(section.tasks) == 1:  # both are the accuracy on the one task
        sides = sides[-1:]
    curves = families(section, scenario)
    figure = Figure(figsize=(9.6, 4.6))
    figure.subplots_adjust(0.07, 0.12, 0.99, 0.91, wspace=0.06)
    axes = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    panels = []
    for axis, metric in zip(axes, sides, strict=True):
        places = [
            (row.group, x, y)
            for row in shown
            if (x := row.scores[metric]) and (y := row.scores["retention"])
        ]
        found = spots([(g, x.mean, y.mean) for g, x, y in places])
        floors = floor(found, [s.x for s in found]), floor(found, [s.y for s in found])
        panel = Panel(axis, drawn_in(found, floors), curves)
        for spot, (_, x, y) in zip(panel.spots, places, strict=True):
            shows = spot.front or base(spot.group) or len(places) <= WHISKERS
            if shows and not spot.beyond:
                whiskers(panel, x, y)
        scatter(panel)
        dress(axis, f"{METRICS[metric].label} ({section.scenarios[scenario]})")
        axis.xaxis.set_major_formatter(PERCENT)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        panels.append(panel)
    for panel in panels:
        panel.axis.margins(0.16, 0.1)
    bare = {text for panel in panels for text in name(panel)}
    panels[0].axis.set_ylabel("retention of pretraining")
    marker_legend(figure, panels)
    text = _said(shown, panels, sorted(bare))
    return figure, text


def _said(shown: Sequence[Standing], panels: Sequence[Panel], bare: Sequence[str]) -> str:
    """What the frontier shows, for those who do not see it."""
    front = ", ".join(spot.group.label for spot in panels[-1].spots if spot.front) or "none"
    text = (
        f"Every method a point, {intervals(row.scores['retention'] for row in shown)}; up and to "
        "the right is better. On the Pareto front of overall performance and retention: "
        f"{front}; the multitask bound does not compete."
    )
    if len(shown) > WHISKERS:
        text += " Intervals are drawn for the front and the baselines; the tables have all."
    if panels[0].families:
        text += " Coloured lines join the settings of a method, which the legend names."
    if any(spot.beyond for panel in panels for spot in panel.spots):
        text += " Triangles at the edge stand for methods out of the picture, with their numbers."
    if bare:
        text += f" For want of room without a name: {', '.join(bare)}."
    return text


def frontier_over_tasks(section: Section, scenario: Scenario) -> Drawn | None:
    """The frontier after several tasks: mean accuracy on the tasks so far against retention."""
    count = len(section.tasks)
    stops = sorted({round(x) for x in np.linspace(0, count - 1, min(4, count))})
    found = [(g, progress(g, scenario)) for g in ranked(section, scenario)]
    found = [(g, p) for g, p in found if not np.isnan(p[1]).all()]
    if count < 2 or not found:
        return None
    curves = families(section, scenario)
    figure = Figure(figsize=(9.6, 3.6))
    figure.subplots_adjust(0.07, 0.15, 0.99, 0.83, wspace=0.06)
    panels = []
    axes = figure.subplots(1, len(stops), sharex=True, sharey=True, squeeze=False)[0]
    for axis, stop in zip(axes, stops, strict=True):
        places = [(g, float(means[stop]), float(kept[stop])) for g, (means, kept) in found]
        panel = Panel(axis, spots([p for p in places if not np.isnan(p[1:]).any()]), curves)
        scatter(panel)
        dress(axis, "mean accuracy so far")
        axis.set_title(f"after task {stop + 1}", fontsize=10)
        axis.xaxis.set_major_formatter(PERCENT)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.margins(0.18)
        panels.append(panel)
    for panel in panels:
        name(panel, every=False)
    panels[0].axis.set_ylabel("retention of pretraining")
    marker_legend(figure, panels)
    return figure, (
        f"The same trade-off while the stream goes on ({section.scenarios[scenario]}): mean "
        "accuracy on the tasks seen so far, and retention, means over seeds; named are the Pareto "
        "front, dashed, and the baselines."
    )
