"""Overall performance as bars, in the layout of SFA's Fig. 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from clbench.record.baselines import PLAIN
from clbench.record.record import Scenario
from clbench.report.comparison import Compared
from clbench.report.drawing import INK, Drawn, dress, panels, short
from clbench.report.group import GroupKind
from clbench.report.metrics import show
from clbench.report.pooled import pooled
from clbench.report.section import Section, Standing
from clbench.report.statistics import intervals

#: Told apart by colour and by hatch; the names are in the legend.
KINDS: dict[GroupKind, tuple[str, str, str]] = {
    "oblivious": ("sees no past data", "#0072b2", ""),
    "past": ("sees past data", "#cc79a7", "///"),
    "bound": ("multitask bound", "none", "xx"),
}
#: More bars than these would be too thin to read; side by side, fewer fit.
BARS, SHARED_BARS = 28, 14
#: Above so many bars the values would run into each other.
VALUES = 14


def bars(section: Section, scenario: Scenario) -> Drawn | None:
    """Overall performance of every method, with intervals, by what the methods may see."""
    groups, note = panels(section, scenario, BARS)
    numbers = {group.number for group in groups}
    rows = [
        row
        for row in section.leaderboard(scenario)
        if row.group.number in numbers and row.scores["overall_performance"]
    ]
    if not rows:
        return None
    labels = [row.group.label for row in rows]
    figure, axes = _figure([labels], 9.6)
    _bars(axes[0], rows)
    _finish(figure, axes, rows, section.scenarios[scenario])
    return figure, _text(rows, section.scenarios[scenario]) + note


def all_bars(comparison: Compared, scenario: Scenario) -> Drawn | None:
    """The same for the methods that all streams share, a panel for each stream."""
    rows = pooled(comparison, scenario)
    bases = [row.label for row in rows if row.groups[0].base == PLAIN]
    kept = {*[*bases, *(row.label for row in rows)][:SHARED_BARS]}
    order = [row.label for row in rows if row.label in kept]
    if not order:
        return None
    found = []
    for section in comparison.sections:
        by_label = {row.group.label: row for row in section.leaderboard(scenario)}
        found.append([by_label[label] for label in order])
    figure, axes = _figure([order] * len(found), 9.6)
    for axis, bars_of, section in zip(axes, found, comparison.sections, strict=True):
        _bars(axis, bars_of, values=len(bars_of) <= VALUES // 2)
        axis.set_title(short(section.title, 60), fontsize=9)
    _finish(figure, axes, found[0], comparison.scenarios[scenario])
    note = f" Shown are {len(order)} of {len(rows)} methods." if len(rows) > len(order) else ""
    every = [row for panel in found for row in panel]
    return figure, (
        f"{_what(every, comparison.scenarios[scenario])}, a panel for each stream, methods ordered "
        f"by their mean over the streams: {', '.join(order)}.{note}"
    )


def _figure(labels: Sequence[Sequence[str]], width: float) -> tuple[Figure, list[Any]]:
    columns = min(2, len(labels))
    lines = -(-len(labels) // columns)
    longest = max(len(short(label)) for panel in labels for label in panel)
    below = 0.15 + (0.038 * longest if _slanted(labels[0], columns) else 0.15)
    inches = lines * (2.5 + below + 0.25) + 0.35
    figure = Figure(figsize=(width, inches))
    figure.subplots_adjust(
        0.075,
        below / inches,
        0.99,
        1 - (0.6 if len(labels) > 1 else 0.4) / inches,
        wspace=0.06,
        hspace=(below + 0.3) / 2.5,
    )
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=True).ravel())
    for axis in axes[len(labels) :]:
        axis.remove()
    return figure, axes[: len(labels)]


def _slanted(labels: Sequence[str], columns: int) -> bool:
    """Whether the labels would run into each other side by side."""
    return max(len(short(label)) for label in labels) * len(labels) > 110 / columns


def _bars(axis: Any, rows: Sequence[Standing], values: bool = True) -> None:
    intervals: list[tuple[float, ...]] = []
    for place, row in enumerate(rows):
        op = row.scores["overall_performance"]
        if op is None:
            continue
        _, colour, hatch = KINDS[row.group.kind]
        fill = {"facecolor": colour, "edgecolor": INK if colour == "none" else "#ffffff"}
        axis.bar(place, op.mean, 0.72, hatch=hatch, lw=0.8, **fill)
        top = op.mean
        if op.low is not None and op.high is not None:
            ends = (max(0.0, op.mean - op.low), max(0.0, op.high - op.mean))
            intervals.append((place, op.mean, *ends))
            top = max(top, op.high)
        if values and len(rows) <= VALUES:
            text = show(op.mean, "accuracy")
            axis.annotate(
                text, (place, top), (0, 3), textcoords="offset points", ha="center", fontsize=8
            )
        if row.group.kind != "oblivious":
            edge = INK if row.group.kind == "bound" else colour
            axis.axhline(op.mean, color=edge, lw=0.9, ls=(0, (4, 3)), zorder=0)
    if intervals:
        x, y, below, above = zip(*intervals, strict=True)
        axis.errorbar(x, y, (below, above), fmt="none", ecolor=INK, capsize=3, elinewidth=1.1)
    labels = [short(row.group.label) for row in rows]
    slanted = _slanted(labels, 1 if axis.get_subplotspec().get_gridspec().ncols == 1 else 2)
    axis.set_xticks(
        range(len(rows)),
        labels,
        **({"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slanted else {}),
    )
    dress(axis)
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.grid(visible=False, axis="x")
    axis.set_axisbelow(True)
    axis.set_xlim(-0.6, len(rows) - 0.4)


def _finish(figure: Figure, axes: Sequence[Any], rows: Sequence[Standing], title: str) -> None:
    highest = max(axis.get_ylim()[1] for axis in axes)
    axes[0].set_ylim(0, max(highest * 1.06, 0.01))
    for axis in axes[:: axes[0].get_subplotspec().get_gridspec().ncols]:
        axis.set_ylabel(f"OP ({title})")
    kinds = {row.group.kind for row in rows}
    handles = [
        Patch(
            facecolor=colour,
            edgecolor=INK if colour == "none" else "#ffffff",
            hatch=hatch,
            label=name,
        )
        for kind, (name, colour, hatch) in KINDS.items()
        if kind in kinds
    ]
    figure.legend(
        handles=handles, loc="upper center", ncols=len(handles), fontsize=8, frameon=False
    )


def _what(rows: Iterable[Standing], title: str) -> str:
    known = intervals(row.scores["overall_performance"] for row in rows)
    return (
        f"Mean {title} test accuracy over all tasks after the last, {known}; "
        "dashed lines carry the multitask bound and the methods that see past data across"
    )


def _text(rows: Sequence[Standing], title: str) -> str:
    parts = []
    for kind, (name, _, _) in KINDS.items():
        found = [row for row in rows if row.group.kind == kind]
        ops = [row.scores["overall_performance"] for row in found]
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        told = [
            f"{row.group.label} {show(op.mean, 'accuracy')} %"
            for row, op in zip(found[:5], ops[:5], strict=True)
            if op
        ]
        if told:
            parts.append(f"{name}: {', '.join(told)}{more}")
    text = "; ".join(parts)
    return f"{_what(rows, title)}. {text[0].upper()}{text[1:]}."
