"""The figures of a comparison, each with a sentence that says what it shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from clbench.record import Scenario
from clbench.report.compare import Group, Section
from clbench.report.metrics import METRICS, SCENARIO_TITLES, show
from clbench.report.statistics import pareto

Drawn = tuple[Figure, str]
#: Okabe and Ito's colours that stand out on white and on black, told apart by colour-blind readers.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
MARKERS = "osD^vPX<>hp"
TASKS = mpl.colormaps["viridis"]
PERCENT = FuncFormatter(lambda value, _: f"{round(100 * value, 2):g}%")
#: Text and axes; ``svg.py`` makes them follow the page's colours.
INK, FAINT = "#010203", "#b0b1b2"
#: Small multiples stop here; the best methods and the baselines are shown.
PANELS = 9
COLUMNS = 3


def style(section: Section, group: Group) -> dict[str, Any]:
    """Colour and marker of a method, the same in all figures of its section; 66 pairs differ."""
    number = sorted(section.groups, key=lambda other: other.label).index(group)
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def task_colour(task: int, count: int, dark: bool = False) -> str:
    """Colour of a task's curve; on a dark page another one, as the first would vanish there."""
    share = task / max(1, count - 1)
    return str(mpl.colors.to_hex(TASKS(0.35 + 0.65 * share if dark else 0.9 * share)))


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
        _dress(axis, f"{METRICS[metric].label} ({SCENARIO_TITLES[scenario]})")
        axis.xaxis.set_major_formatter(PERCENT)
        axis.margins(0.1)
    axes[0].set_ylabel("retention of pretraining")
    handles, names = axes[1].get_legend_handles_labels()
    handles = [handle[0] for handle in handles]
    handles.append(mpl.lines.Line2D([], [], color=INK, lw=1, ls="--"))
    _legend(figure, handles, [*names, "Pareto front"])
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
    shown = [(g, _progress(g, scenario)) for g in _ranked(section, scenario)]
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
        _dress(axis, "mean accuracy so far")
        axis.set_title(f"after task {stop + 1}", fontsize=10)
        axis.xaxis.set_major_formatter(PERCENT)
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.margins(0.12)
    axes[0].set_ylabel("retention of pretraining")
    _legend(figure, *axes[-1].get_legend_handles_labels())
    return figure, (
        f"The same trade-off while the stream goes on ({SCENARIO_TITLES[scenario]}): mean accuracy "
        "on the tasks seen so far, and retention, means over seeds; dashed: the Pareto front."
    )


def over_tasks(section: Section, scenario: Scenario) -> Drawn | None:
    """Mean accuracy so far, and retention, after every task."""
    groups = _ranked(section, scenario)
    shown = [(g, _progress(g, scenario)) for g in groups]
    if not shown:
        return None
    figure = Figure(figsize=(9.6, 3.6 + 0.21 * max(0, len(shown) - 14)))
    figure.subplots_adjust(0.07, 0.15, 0.76, 0.92, wspace=0.16)
    axes = figure.subplots(1, 2)
    after = np.arange(1, len(section.tasks) + 1)
    for group, (means, kept) in shown:
        for axis, values in zip(axes, (means, kept), strict=True):
            axis.plot(after, values, **style(section, group), ms=4, lw=1.3, label=group.label)
    titles = (f"mean accuracy so far ({SCENARIO_TITLES[scenario]})", "retention of pretraining")
    for axis, title in zip(axes, titles, strict=True):
        _dress(axis, "after task")
        axis.set_title(title, fontsize=10)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, *axes[0].get_legend_handles_labels())
    ends = [
        f"{g.label} ends at {show(float(means[-1]), 'accuracy')} %"
        for g, (means, _) in shown[:5]
        if not np.isnan(means[-1])
    ]
    text = "Mean accuracy on the tasks seen so far (left) and retention (right), means over seeds"
    return figure, f"{text}: {', '.join(ends)}." if ends else f"{text}."


def curves(section: Section, scenario: Scenario) -> Drawn | None:
    """Accuracy of every task over the steps of the stream, a panel for each method."""
    groups, note = _panels(section, scenario)
    if not groups:
        return None
    figure, axes = _grid(len(groups), 1.75)
    for axis, group in zip(axes, groups, strict=True):
        values: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for run in group.finished:
            for point in run.record.curves():
                values[point["task"]][point["step"]].append(point[scenario])
        for task, points in sorted(values.items()):
            steps = sorted(points)
            marker = "o" if len(steps) < 20 else None
            means = [float(np.mean(points[step])) for step in steps]
            colour = task_colour(task, len(section.tasks))
            axis.plot(steps, means, color=colour, lw=1.2, marker=marker, ms=2.5)
        for event in group.finished[0].record.tasks[:-1]:
            axis.axvline(event["last_step"], color=FAINT, lw=0.7, zorder=0)
        axis.set_title(_short(group.label), fontsize=9)
        axis.set_ylim(-0.03, 1.03)
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _dress(axis)
    figure.supxlabel("training step (vertical lines: a new task)", fontsize=9, color=INK)
    return figure, (
        f"{SCENARIO_TITLES[scenario].capitalize()} test accuracy of every task, mean over seeds: "
        f"the first task is darkest, the last is lightest.{note}"
    )


def matrices(section: Section, scenario: Scenario) -> Drawn | None:
    """Accuracy matrices side by side: rows are time, columns are tasks."""
    groups, note = _panels(section, scenario)
    if not groups:
        return None
    count = len(section.tasks)
    figure, axes = _grid(len(groups), 2.6)
    for axis, group in zip(axes, groups, strict=True):
        matrix = _mean([run.record.accuracy_matrix(scenario) for run in group.finished])
        axis.imshow(matrix, vmin=0, vmax=1, cmap="cividis", interpolation="none", aspect="auto")
        if count <= 6:
            for (row, column), value in np.ndenumerate(matrix):
                if not np.isnan(value):
                    colour = "#000000" if value > 0.55 else "#ffffff"
                    text = show(float(value), "accuracy")
                    axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        axis.set_title(_short(group.label), fontsize=9)
        axis.tick_params(labelsize=8, colors=INK)
    ticks = np.arange(0, count, max(1, -(-count // 6)))  # of all panels, as they share axes
    axes[0].set_xticks(ticks, ticks + 1)
    axes[0].set_yticks(ticks, ticks + 1)
    figure.supxlabel("test accuracy on task", fontsize=9, color=INK)
    figure.supylabel("after training on task", fontsize=9, color=INK)
    return figure, (
        f"{SCENARIO_TITLES[scenario].capitalize()} accuracy in % on each task (columns) after "
        f"training on each task (rows), means over seeds: dark blue is 0, yellow is 100 %.{note}"
    )


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


def _ranked(section: Section, scenario: Scenario) -> list[Group]:
    return [row.group for row in section.leaderboard(scenario) if row.group.finished]


def _panels(section: Section, scenario: Scenario) -> tuple[list[Group], str]:
    ranked = _ranked(section, scenario)
    if len(ranked) <= PANELS:
        return ranked, ""
    bases = [g for g in ranked if g.is_method("sequential") or g.is_method("multitask")]
    kept = {g.number for g in [*bases, *ranked][:PANELS]}
    shown = [g for g in ranked if g.number in kept]
    return shown, f" Shown are the best {len(shown)} of {len(ranked)} methods, with the baselines."


def _progress(group: Group, scenario: Scenario) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean accuracy so far and retention after every task (T,), over seeds; NaN if unknown."""
    count = len(group.runs[0].record.run["tasks"])
    means, kept = (np.full((len(group.finished), count), np.nan) for _ in range(2))
    for number, run in enumerate(group.finished):
        for event in run.record.tasks:
            means[number, event["task"]] = np.mean(event[scenario])
            if event["retention"]:
                kept[number, event["task"]] = event["retention"]["top1"]
    return _mean(list(means)), _mean(list(kept))


def _mean(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """The mean of arrays that have their NaNs in the same places."""
    return np.mean(arrays, axis=0)


def _grid(count: int, height: float) -> tuple[Figure, list[Any]]:
    columns = min(COLUMNS, count)
    lines = -(-count // columns)
    inches = (height + 0.4) * lines + 0.5
    figure = Figure(figsize=(9.6 if columns == COLUMNS else 4.4 * columns, inches))
    figure.subplots_adjust(
        0.075, 0.5 / inches, 0.99, 1 - 0.28 / inches, wspace=0.16, hspace=0.55 / height
    )
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axis in axes[count:]:
        axis.remove()
    for axis in axes[max(0, count - columns) : count]:
        axis.tick_params(labelbottom=True)
    return figure, list(axes[:count])


def _dress(axis: Any, xlabel: str | None = None) -> None:
    if xlabel:
        axis.set_xlabel(xlabel)
    axis.yaxis.set_major_formatter(PERCENT)
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.tick_params(labelsize=8, colors=INK)
    axis.grid(color=FAINT, alpha=0.5, lw=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, handles: list[Any], labels: list[str]) -> None:
    figure.legend(
        handles,
        [_short(label) for label in labels],
        loc="center right",
        fontsize=8,
        frameon=False,
        borderaxespad=0.2,
    )


def _short(text: str, most: int = 30) -> str:
    # A dollar sign would start a formula.
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")
