"""Pictures of one run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from clbench.record import SCENARIOS, Record

TITLES = {"task_incremental": "task-incremental", "class_incremental": "class-incremental"}
#: Dark to light within one perceptually even map: told apart in grey and by colour-blind readers.
TASKS = mpl.colormaps["viridis"]
RETENTION = "#b5432a"
PERFORMANCE = "#2a5fb5"


def accuracy_matrix(record: Record) -> Figure:
    """Heat maps of R[t, i] for both scenarios: rows are time, columns are tasks."""
    count = len(record.run["tasks"])
    side = min(2.2 + 0.42 * count, 9.0)
    figure = Figure(figsize=(2 * side + 1, side + 0.9), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, scenario in zip(axes, SCENARIOS, strict=True):
        matrix = record.accuracy_matrix(scenario)
        image = axis.imshow(matrix, vmin=0, vmax=1, cmap="cividis")
        if count <= 12:
            for (row, column), value in np.ndenumerate(matrix):
                if not np.isnan(value):
                    colour = "black" if value > 0.55 else "white"
                    size = 10 if count <= 6 else 7
                    text = f"{100 * value:.1f}" if count <= 6 else f"{100 * value:.0f}"
                    axis.text(
                        column, row, text, ha="center", va="center", color=colour, fontsize=size
                    )
        ticks = np.arange(count) if count <= 12 else np.arange(0, count, 5)
        axis.set_xticks(ticks, ticks + 1)
        axis.set_yticks(ticks, ticks + 1)
        axis.set_title(TITLES[scenario])
        axis.set_xlabel("test accuracy on task")
    axes[0].set_ylabel("after training on task")
    figure.colorbar(image, ax=axes, format=PercentFormatter(1), shrink=0.8)
    figure.suptitle(record.run["title"])
    return figure


def curves(record: Record) -> Figure:
    """Accuracy of every task over the steps of the whole stream (SFA's paper, Fig. 2)."""
    names, tasks = record.run["tasks"], record.tasks
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True, sharey=True)
    for axis, scenario in zip(axes, SCENARIOS, strict=True):
        lines = defaultdict(list)
        for point in record.curves():
            lines[point["task"]].append((point["step"], point[scenario]))
        for task, points in sorted(lines.items()):
            colour = TASKS(0.9 * task / max(1, len(names) - 1))
            steps, values = zip(*points, strict=True)
            label = f"{task + 1}: {names[task]}" if len(names) <= 10 else None
            marker = "o" if len(points) < 20 else None
            axis.plot(steps, values, color=colour, label=label, lw=1.3, marker=marker, ms=3)
        for event in tasks[:-1]:
            axis.axvline(event["last_step"], color="0.8", lw=0.8, zorder=0)
        axis.set_ylabel(f"{TITLES[scenario]}\naccuracy")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_ylim(-0.02, 1.02)
        axis.grid(alpha=0.25)
    axes[-1].set_xlabel("training step (vertical lines: a new task)")
    if len(names) <= 10:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", title="task")
    else:
        colours = mpl.cm.ScalarMappable(mpl.colors.Normalize(1, len(names) / 0.9), TASKS)
        colours.set_array(np.array([]))
        bar = figure.colorbar(
            colours, ax=axes, label="task", boundaries=np.arange(0.5, len(names) + 1)
        )
        bar.set_ticks(list(range(1, len(names) + 1, max(1, len(names) // 10))))
    figure.suptitle(record.run["title"])
    return figure


def performance_and_retention(record: Record) -> Figure:
    """Mean accuracy on the seen tasks, and retention of pretraining, after every task."""
    tasks = record.tasks
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    after = [event["task"] + 1 for event in tasks]
    for scenario, style in zip(SCENARIOS, ("-o", "--s"), strict=True):
        means = [float(np.mean(event[scenario])) for event in tasks]
        label = f"mean of the tasks so far ({TITLES[scenario]})"
        axis.plot(after, means, style, color=PERFORMANCE, label=label, ms=5)
    summary = record.summary()["retention"]
    if summary["pretrained"] is not None:
        axis.plot(
            [0, *after],
            [summary["pretrained"], *summary["after_task"]],
            "-^",
            color=RETENTION,
            label="retention of pretraining (top-1)",
            ms=5,
        )
        axis.axhline(summary["pretrained"], color=RETENTION, lw=0.8, ls=":")
    axis.set_xlabel("after task (0: pretrained)")
    axis.set_ylabel("accuracy")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_ylim(-0.02, 1.02)
    axis.grid(alpha=0.25)
    axis.legend(loc="best", fontsize=9)
    axis.set_title(record.run["title"])
    return figure


#: All figures of a run, by the name of their file.
FIGURES: dict[str, Callable[[Record], Figure]] = {
    "accuracy_matrix": accuracy_matrix,
    "curves": curves,
    "performance_and_retention": performance_and_retention,
}


def figures(record: Record) -> dict[str, Figure]:
    """All figures of a run, by the name of their file."""
    return {name: draw(record) for name, draw in FIGURES.items()}
