"""Figures of what happens while a stream goes on."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from clbench.record.baselines import PLAIN
from clbench.record.record import Scenario
from clbench.report.drawing import (
    FAINT,
    GREY,
    INK,
    Drawn,
    dress,
    grid,
    legend,
    mean,
    panels,
    progress,
    ranked,
    short,
    style,
    task_colour,
)
from clbench.report.group import Group
from clbench.report.metrics import show
from clbench.report.section import Section

#: Named lines; more could not be told apart.
LINES = 9


def over_tasks(section: Section, scenario: Scenario) -> Drawn | None:
    """Mean accuracy so far, and retention, after every task."""
    groups = ranked(section, scenario)
    named, note = panels(section, scenario, LINES)
    found = [(g, progress(g, scenario)) for g in groups]
    if not found:
        return None
    sides = [0] if all(np.isnan(kept).all() for _, (_, kept) in found) else [0, 1]
    figure = Figure(figsize=(9.6, 3.6))
    figure.subplots_adjust(0.07, 0.15, 0.76, 0.92, wspace=0.16)
    axes = figure.subplots(1, len(sides), squeeze=False)[0]
    after = np.arange(1, len(section.tasks) + 1)
    every = max(1, len(after) // 8)
    shown = [(g, p) for g, p in found if any(g is other for other in named)]
    for group, both in found:
        leads = any(group is other for other in named)
        look = style(section, group, named) if leads else {"color": GREY, "zorder": 1, "alpha": 0.6}
        for axis, side in zip(axes, sides, strict=True):
            line = {"lw": 1.3, "ms": 4, "markevery": every} if leads else {"lw": 0.7}
            axis.plot(after, both[side], **look, **line, label=group.label if leads else None)
    titles = (f"mean accuracy so far ({section.scenarios[scenario]})", "retention of pretraining")
    for axis, side in zip(axes, sides, strict=True):
        dress(axis, "after task")
        axis.set_title(titles[side], fontsize=10)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axes[0].get_legend_handles_labels()
    if len(named) < len(found):
        handles.append(Line2D([], [], color=GREY, lw=0.7))
        labels.append(f"{len(found) - len(named)} other methods")
        note = note.replace("Shown", "Named")
    legend(figure, handles, labels)
    ends = [
        f"{g.label} ends at {show(float(means[-1]), 'accuracy')} %"
        for g, (means, _) in shown[:5]
        if not np.isnan(means[-1])
    ]
    text = "Mean accuracy on the tasks seen so far"
    text += " (left) and retention (right)" if len(sides) > 1 else ""
    text += ", means over seeds"
    return figure, (f"{text}: {', '.join(ends)}." if ends else f"{text}.") + note


def curves_of_methods(section: Section, scenario: Scenario) -> Drawn | None:
    """Accuracy of every task over gradient steps, a panel for each method (SFA's Fig. 2)."""
    groups, note = panels(section, scenario)
    if not groups:
        return None
    # The baseline on top, as there; the bound, which has no course, at the end.
    groups.sort(key=lambda g: (g.base != PLAIN, g.kind == "bound"))
    count = len(section.tasks)
    figure, axes = grid(len(groups), 1.9, most=1 if len(groups) <= 2 else 2)
    for axis, group in zip(axes, groups, strict=True):
        courses = _courses(group, scenario)
        marker = "o" if max(map(len, courses.values())) < 20 else None
        for task, points in sorted(courses.items()):
            colour = task_colour(task, count)
            axis.plot(*zip(*points, strict=True), color=colour, lw=1.2, marker=marker, ms=2.5)
        for event in group.finished[0].record.tasks[:-1]:
            axis.axvline(event.last_step, color=FAINT, lw=0.7 if count <= 20 else 0.3, zorder=0)
        axis.set_title(short(group.label, 60), fontsize=9)
        axis.set_ylim(-0.03, 1.03)
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        dress(axis)
        axis.grid(visible=False, axis="x")  # the tasks' lines stand there
    figure.supxlabel("gradient step (vertical lines: a new task)", fontsize=9, color=INK)
    shown = range(count) if count <= 8 else sorted({round(x) for x in np.linspace(0, count - 1, 6)})
    handles = [Line2D([], [], color=task_colour(task, count), lw=2) for task in shown]
    names = [f"{task + 1}: {short(section.tasks[task], 22)}" for task in shown]
    inches = figure.get_figheight()
    figure.subplots_adjust(right=0.83)
    figure.legend(
        handles,
        names,
        title="task",
        loc="upper right",
        bbox_to_anchor=(1, 1 - 0.2 / inches),
        fontsize=8,
        title_fontsize=8,
        frameon=False,
    )
    return figure, (
        f"{section.scenarios[scenario].capitalize()} test accuracy of every task, mean over seeds: "
        f"the first task is darkest, the last is lightest.{note}"
    )


def _courses(group: Group, scenario: Scenario) -> dict[int, list[tuple[int, float]]]:
    """Steps and accuracies, mean over seeds, of every task that was tested."""
    found: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in group.finished:
        for event in run.record.tasks:
            for step, point in event.course():
                for task, value in zip(point.evaluated, point.of(scenario), strict=True):
                    found[task][step].append(value)
    return {
        task: [(step, sum(values) / len(values)) for step, values in sorted(points.items())]
        for task, points in found.items()
    }


def matrices(section: Section, scenario: Scenario) -> Drawn | None:
    """Accuracy matrices side by side: rows are time, columns are tasks."""
    groups, note = panels(section, scenario)
    if not groups:
        return None
    count = len(section.tasks)
    figure, axes = grid(len(groups), 2.6)
    for axis, group in zip(axes, groups, strict=True):
        matrix = mean([run.record.accuracy_matrix(scenario) for run in group.finished])
        axis.imshow(matrix, vmin=0, vmax=1, cmap="cividis", interpolation="none", aspect="auto")
        if count <= 6:
            for (row, column), value in np.ndenumerate(matrix):
                if not np.isnan(value):
                    colour = "#000000" if value > 0.55 else "#ffffff"
                    text = show(float(value), "accuracy")
                    axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        axis.set_title(short(group.label), fontsize=9)
        axis.tick_params(labelsize=8, colors=INK, left=False, bottom=False)
        axis.yaxis.set_visible(axis.get_subplotspec().is_first_col())
    ticks = np.arange(0, count, max(1, -(-count // 6)))  # of all panels, as they share axes
    axes[0].set_xticks(ticks, ticks + 1)
    axes[0].set_yticks(ticks, ticks + 1)
    figure.supxlabel("test accuracy on task", fontsize=9, color=INK)
    figure.supylabel("after training on task", fontsize=9, color=INK)
    return figure, (
        f"{section.scenarios[scenario].capitalize()} accuracy in % on each task (columns) after "
        f"training on each task (rows), means over seeds: dark blue is 0, yellow is 100 %.{note}"
    )
