"""Pictures of one run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from clbench.record.record import Record
from clbench.report.fonts import drawable, literal, missing_glyphs
from clbench.text.texts import cut_line

#: Dark to light within one perceptually even map: told apart in grey and by colour-blind readers.
TASKS = mpl.colormaps["viridis"]
RETENTION = "#b5432a"
PERFORMANCE = "#2a5fb5"
#: Of other measures of retention.
OTHERS = ("#d98c3f", "#8a6d3b", "#b07aa1", "#6b8e23", "#c2577a", "#7f7f7f")


#: A picture's width in inches at most: in a text of usual width its type stays readable.
WIDTH = 10.0
#: More tasks than these: no numbers in the matrices, no names in the legend.
NUMBERS, NAMES = 10, 10


def lacking_fonts(record: Record) -> str:
    """A sentence on names that no font here can draw; empty if there are none."""
    return missing_glyphs(_names(record))


def accuracy_matrix(record: Record) -> Figure:
    """Heat maps of R[t, i] for each scenario: rows are time, columns are tasks."""
    count = len(record.run.tasks)
    width = min(4.4 + 0.84 * count, WIDTH)
    side, panels = width / 2, len(record.scenarios)
    width = max(width * panels / 2, 3.4)
    figure = Figure(figsize=(width, side + 0.4), layout="constrained")
    (axes,) = figure.subplots(1, panels, sharey=True, squeeze=False)
    for axis, (scenario, title) in zip(axes, record.scenarios.items(), strict=True):
        matrix = record.accuracy_matrix(scenario)
        image = axis.imshow(matrix, vmin=0, vmax=1, cmap="cividis", interpolation="none")
        if count <= NUMBERS:
            _numbers(axis, matrix)
        step = 1 if count <= NUMBERS else 5 * -(-count // 50)
        ticks = np.array(sorted({0, *range(step - 1, count, step)}))
        axis.set_xticks(ticks, ticks + 1)
        axis.set_yticks(ticks, ticks + 1)
        axis.set_title(title)
        axis.set_xlabel("test accuracy on task")
    axes[0].set_ylabel("after training on task")
    figure.colorbar(image, ax=axes, format=PercentFormatter(1), shrink=0.8)
    figure.suptitle(_title(record, width))
    return figure


def _numbers(axis: Axes, matrix: NDArray[np.float64]) -> None:
    few = len(matrix) <= 6
    for (row, column), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            colour = "black" if value > 0.55 else "white"
            text = f"{100 * value:.1f}" if few else f"{100 * value:.0f}"
            size = 10 if few else 8
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _title(record: Record, width: float) -> str:
    """The run's name, cut where it would leave a picture of so many inches."""
    return drawable(cut_line(record.run.title, int(9 * width)))


def curves(record: Record) -> Figure:
    """Accuracy of every task over the steps of the whole stream (SFA's paper, Fig. 2)."""
    names, tasks = record.run.tasks, record.tasks
    panels = len(record.scenarios)
    figure = Figure(figsize=(9, 3 * panels + 1.2 * (panels == 1)), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (scenario, title) in zip(axes, record.scenarios.items(), strict=True):
        lines = defaultdict(list)
        for point in record.curves():
            lines[point["task"]].append((point["step"], point[scenario]))
        # All lines alike, and a point alone (the last task's, often) still seen.
        few = max(map(len, lines.values()), default=0) < 20
        for task, points in sorted(lines.items()):
            colour = TASKS(0.9 * task / max(1, len(names) - 1))
            steps, values = zip(*points, strict=True)
            label = (
                f"{task + 1}: {drawable(cut_line(names[task], 32))}"
                if len(names) <= NAMES
                else None
            )
            marker = "o" if few or len(points) == 1 else None
            axis.plot(steps, values, color=colour, label=label, lw=1.3, marker=marker, ms=3)
        width = 0.8 if len(names) <= 20 else 0.4
        for event in tasks[:-1]:
            axis.axvline(event.last_step, color="0.8", lw=width, zorder=0)
        axis.set_ylabel(f"{title}\naccuracy")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_ylim(-0.02, 1.02)
        axis.grid(alpha=0.25)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1].set_xlabel("training step (vertical lines: a new task)")
    if len(names) <= NAMES:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", title="task")
    else:
        _task_bar(figure, axes, len(names))
    figure.suptitle(_title(record, 9))
    return figure


def _task_bar(figure: Figure, axes: NDArray[np.object_], count: int) -> None:
    """The colours of the tasks, where there are too many for a legend."""
    shades = ListedColormap([TASKS(0.9 * task / (count - 1)) for task in range(count)])
    colours = mpl.cm.ScalarMappable(mpl.colors.Normalize(0.5, count + 0.5), shades)
    bar = figure.colorbar(colours, ax=list(axes), label="task")
    bar.set_ticks(sorted({1, count, *range(5, count - 1, 5 * -(-count // 50))}))
    bar.minorticks_off()


def performance_and_retention(record: Record) -> Figure:
    """Mean accuracy on the seen tasks, and retention of pretraining, after every task."""
    tasks = record.tasks
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    after = [event.task + 1 for event in tasks]
    size = 5 if len(after) <= 20 else 3
    for (scenario, title), style in zip(record.scenarios.items(), ("-o", "--s"), strict=False):
        means = [float(np.mean(event.of(scenario))) for event in tasks]
        label = f"mean of the tasks so far ({title})"
        axis.plot(after, means, style, color=PERFORMANCE, label=label, ms=size)
    summary = record.summary()["retention"]
    if summary["pretrained"] is not None:
        axis.plot(
            [0, *after],
            [summary["pretrained"], *summary["after_task"]],
            "-^",
            color=RETENTION,
            label="retention of pretraining (top-1)",
            ms=size,
        )
        axis.axhline(summary["pretrained"], color=RETENTION, lw=0.8, ls=":")
    others = {n: m for n, m in summary.get("measures", {}).items() if n != "head"}
    for number, (name, course) in enumerate(others.items()):
        axis.plot(
            [0, *after],
            [course["before"], *course["after_task"]],
            color=OTHERS[number % len(OTHERS)],
            marker="dvPX*p"[number % 6],
            lw=1,
            ms=size,
            label=f"retention by {drawable(cut_line(name, 30))}",
        )
    axis.set_xlabel("after task (0: pretrained)")
    axis.set_ylabel("accuracy")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_ylim(-0.02, 1.02)
    axis.grid(alpha=0.25)
    if others:  # so many lines leave no room among them
        figure.set_size_inches(9, 4.2)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    else:
        axis.legend(loc="best", fontsize=9)
    axis.set_title(_title(record, 7))
    return figure


#: All figures of a run, by the name of their file.
FIGURES: dict[str, Callable[[Record], Figure]] = {
    "accuracy_matrix": accuracy_matrix,
    "curves": curves,
    "performance_and_retention": performance_and_retention,
}


def draw_figure(record: Record, name: str) -> Figure:
    """One of :data:`FIGURES`, with names as they are written."""
    with literal(_names(record)):
        return FIGURES[name](record)


def figures(record: Record) -> dict[str, Figure]:
    """All figures of a run, by the name of their file."""
    return {name: draw_figure(record, name) for name in FIGURES}


def _names(record: Record) -> list[str]:
    return [record.run.title, *record.run.tasks]
