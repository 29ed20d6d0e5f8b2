"""Figures of new-task performance against retention."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clbench.record import Scenario
from clbench.report.drawing import INK, PERCENT, Drawn, dress, legend, progress, ranked, style
from clbench.report.metrics import METRICS, SCENARIO_TITLES
from clbench.report.section import Section
from clbench.report.statistics import pareto


def frontier(section: Section, scenario: Scenario) -> Drawn | None:
    """New-task performance against retention, with intervals and the Pareto front."""
    sides = ("learning_accuracy", "overall_performance")
    board = section.leaderboard(scenario)
    shown = [row for row in board if row.scores["retention"] and row.scores[sides[1]]]
    if not shown:
        return None
    figure = Figure(figsize=(9.6, 4.4 + 0.21 * max(0, len(shown) - 18)))
    figure.subplots_adjust(0.07, 0.13, 0.76, 0.95, wspace=0.08)
    axes = figure.subplots(1, 2, sharey=True)
    front: list[str] = []
    for axis, metric in zip(axes, sides, strict=True):
        points, labels = [], []
        for row in shown:
            x, y = row.scores[metric], row.scores["retention"]
            if x is None or y is None:
                continue
            xerr = None if x.low is None else [[max(0, x.mean - x.low)], [max(0, x.high - x.mean)]]  # type: ignore[operator]
            yerr = None if y.low is None else [[max(0, y.mean - y.low)], [max(0, y.high - y.mean)]]  # type: ignore[operator]
            axis.errorbar(
                x.mean,
                y.mean,
                yerr,
                xerr,
                **style(section, row.group),
                ms=6,
                lw=1.1,
                label=row.group.label,
            )
            if not row.group.is_method("multitask"):
                points.append((x.mean, y.mean))
                labels.append(row.group.label)
        best = pareto(points)
        line = np.array([points[i] for i in best])
        if len(line):
            axis.plot(line[:, 0], line[:, 1], color=INK, lw=1, ls="--", zorder=0)
        front = [labels[i] for i in best]
        dress(axis, f"{METRICS[metric].label} ({SCENARIO_TITLES[scenario]})")
        axis.xaxis.set_major_formatter(PERCENT)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.margins(0.1)
    axes[0].set_ylabel("retention of pretraining")
    handles, names = axes[1].get_legend_handles_labels()
    handles = [handle[0] for handle in handles]
    handles.append(mpl.lines.Line2D([], [], color=INK, lw=1, ls="--"))
    legend(figure, handles, [*names, "Pareto front"])
    text = (
        "Every method a point, with 95 % intervals; up and to the right is better. On the Pareto "
        f"front of overall performance and retention: {', '.join(front) or 'none'}; the multitask "
        "bound does not compete."
    )
    return figure, text


def frontier_over_tasks(section: Section, scenario: Scenario) -> Drawn | None:
    """The frontier after several tasks: mean accuracy on the tasks so far against retention."""
    count = len(section.tasks)
    stops = sorted({round(x) for x in np.linspace(0, count - 1, min(4, count))})
    shown = [(g, progress(g, scenario)) for g in ranked(section, scenario)]
    shown = [(g, p) for g, p in shown if not np.isnan(p[1]).all()]
    if count < 2 or not shown:
        return None
    figure = Figure(figsize=(9.6, 3.2 + 0.21 * max(0, len(shown) - 13)))
    figure.subplots_adjust(0.07, 0.17, 0.76, 0.9, wspace=0.08)
    axes = figure.subplots(1, len(stops), sharex=True, sharey=True, squeeze=False)[0]
    for axis, stop in zip(axes, stops, strict=True):
        points = []
        for group, (means, kept) in shown:
            place = (float(means[stop]), float(kept[stop]))
            if not np.isnan(place).any():
                axis.plot(*place, ls="", **style(section, group), ms=6, label=group.label)
                if not group.is_method("multitask"):
                    points.append(place)
        line = np.array([points[i] for i in pareto(points)])
        if len(line):
            axis.plot(line[:, 0], line[:, 1], color=INK, lw=1, ls="--", zorder=0)
        dress(axis, "mean accuracy so far")
        axis.set_title(f"after task {stop + 1}", fontsize=10)
        axis.xaxis.set_major_formatter(PERCENT)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.margins(0.12)
    axes[0].set_ylabel("retention of pretraining")
    legend(figure, *axes[-1].get_legend_handles_labels())
    return figure, (
        f"The same trade-off while the stream goes on ({SCENARIO_TITLES[scenario]}): mean accuracy "
        "on the tasks seen so far, and retention, means over seeds; dashed: the Pareto front."
    )
