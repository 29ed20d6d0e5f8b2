"""What the figures share: colours, markers, axes, legends, and which methods they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from clbench.record.record import Scenario
from clbench.report.fonts import drawable
from clbench.report.group import Group
from clbench.report.section import Section
from clbench.text.texts import cut_line

Drawn = tuple[Figure, str]
#: Okabe and Ito's colours that stand out on white and on black, told apart by colour-blind readers.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
MARKERS = "osD^vPX<>hp"
TASKS = mpl.colormaps["viridis"]
#: No tick beyond what an accuracy can be.
PERCENT = FuncFormatter(lambda value, _: "" if value > 1 + 1e-9 else f"{round(100 * value, 2):g}%")
#: Text and axes; ``svg.py`` makes them follow the page's colours.
INK, FAINT = "#010203", "#b0b1b2"
#: What steps back, on white and on black.
GREY = "#7f858f"
#: Small multiples stop here; the best methods and the baselines are shown.
PANELS = 9
COLUMNS = 3


def style(section: Section, group: Group, among: Sequence[Group] = ()) -> dict[str, Any]:
    """Colour and marker of a method, among those that are named with it; 66 pairs differ."""
    found = sorted(among or section.groups, key=lambda other: other.label)
    number = next(i for i, other in enumerate(found) if other.number == group.number)
    look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
    return look | ({"ls": "--"} if number >= len(COLOURS) and among else {})


def task_colour(task: int, count: int, dark: bool = False) -> str:
    """Colour of a task's curve; on a dark page another one, as the first would vanish there."""
    share = task / max(1, count - 1)
    return str(mpl.colors.to_hex(TASKS(0.35 + 0.65 * share if dark else 0.9 * share)))


def ranked(section: Section, scenario: Scenario) -> list[Group]:
    """The methods with finished runs, the best first."""
    return [row.group for row in section.leaderboard(scenario) if row.group.finished]


def panels(section: Section, scenario: Scenario, most: int = PANELS) -> tuple[list[Group], str]:
    """The methods to show, the best first, and a sentence on those left out."""
    groups = ranked(section, scenario)
    if len(groups) <= most:
        return groups, ""
    bases = [g for g in groups if g.base is not None]
    kept = {g.number for g in [*bases, *groups][:most]}
    shown = [g for g in groups if g.number in kept]
    return shown, f" Shown are the best {len(shown)} of {len(groups)} methods, with the baselines."


def progress(group: Group, scenario: Scenario) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean accuracy so far and retention after every task (T,), over seeds; NaN if unknown."""
    count = len(group.runs[0].record.run.tasks)
    means, kept = (np.full((len(group.finished), count), np.nan) for _ in range(2))
    for number, run in enumerate(group.finished):
        for event in run.record.tasks:
            means[number, event.task] = np.mean(event.of(scenario))
            if event.retention:
                kept[number, event.task] = event.retention.top1
    return mean(list(means)), mean(list(kept))


def mean(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """The mean of arrays that have their NaNs in the same places."""
    return np.mean(arrays, axis=0)


def grid(count: int, height: float, most: int = COLUMNS) -> tuple[Figure, list[Any]]:
    """Small multiples that share their axes.

    Args:
        count: of panels.
        height: of a panel, in inches.
        most: panels side by side.
    """
    columns = min(most, count)
    lines = -(-count // columns)
    inches = (height + 0.4) * lines + 0.5
    figure = Figure(figsize=(9.6 if columns == most else 4.4 * columns, inches))
    figure.subplots_adjust(
        0.075, 0.5 / inches, 0.99, 1 - 0.28 / inches, wspace=0.16, hspace=0.55 / height
    )
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axis in axes[count:]:
        axis.remove()
    lowest = max(0, count - columns)
    for axis in axes[lowest:count]:
        axis.tick_params(labelbottom=True)
    for axis in axes[:lowest]:  # an axis takes most of an empty panel's time, labelled or not
        axis.xaxis.set_visible(False)
    return figure, list(axes[:count])


def dress(axis: Any, xlabel: str | None = None) -> None:
    """Percent upwards, a faint grid, no box."""
    if xlabel:
        axis.set_xlabel(xlabel)
    axis.yaxis.set_major_formatter(PERCENT)
    axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.tick_params(labelsize=8, colors=INK, left=False, bottom=False)  # the grid shows the place
    axis.grid(color=FAINT, alpha=0.5, lw=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def legend(figure: Figure, handles: list[Any], labels: list[str], most: int = 30) -> None:
    """A legend at the right of the panels."""
    figure.legend(
        handles,
        [short(label, most) for label in labels],
        loc="center right",
        fontsize=8,
        frameon=False,
        borderaxespad=0.2,
    )


def short(text: str, most: int = 30) -> str:
    """A label as one line of at most ``most`` characters."""
    return drawable(cut_line(text, most))
