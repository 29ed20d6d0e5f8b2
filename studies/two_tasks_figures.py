"""The figures of `sfa_two_tasks`: fronts of two accuracies, and distances over the interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: A setting's means, and halves of the 95 % intervals, as `means.csv` has them.
Row = dict[str, Any]
MARKS = {"after task A": "P", "sequential": "X", "multitask": "*"}


def trade_off_figure(rows: Sequence[Row], panels: Sequence[Sequence[Any]]) -> Figure:
    """SFA's Fig. 9: accuracy on A against accuracy on B, a curve for each sweep.

    Args:
        rows: all means.
        panels: the sweeps of each panel.
    """
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True)
    for axis, sweeps, title in zip(
        axes, panels, ("SFA over β (every 20 batches)", "SFA over the interval"), strict=True
    ):
        for sweep in sweeps:
            _curve(axis, [row for row in rows if row["sweep"] == sweep.name], sweep)
        for name, marker in MARKS.items():
            row = next(row for row in rows if row["sweep"] == name)
            axis.plot(
                100 * row["test_B"], 100 * row["test_A"], marker, color="black", ms=9, label=name
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("test accuracy on task B, odd digits, %")
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, loc="lower left")
    axes[0].set_ylabel("test accuracy on task A, even digits, %")
    axes[0].set_ylim(top=101.5)
    return figure


def _curve(axis: Axes, points: Sequence[Row], sweep: Any) -> None:
    axis.errorbar(
        [100 * row["test_B"] for row in points],
        [100 * row["test_A"] for row in points],
        xerr=[100 * row["test_B_half"] for row in points],
        yerr=[100 * row["test_A_half"] for row in points],
        color=sweep.colour,
        marker=sweep.marker,
        ms=4.5,
        lw=1.4,
        elinewidth=0.6,
        label=f"{sweep.name}: {sweep.symbol} {points[0]['value']:g} … {points[-1]['value']:g}",
    )


def distance_figure(rows: Sequence[Row], sweeps: Sequence[Any], steps: int) -> Figure:
    """SFA's Fig. 10 and Table 2: distance from θ_o, and accuracy on A, over p.

    Args:
        rows: all means.
        sweeps: over the interval.
        steps: of task B, so that p is an interval's share of them.
    """
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    sequential = next(row for row in rows if row["sweep"] == "sequential")
    for sweep in sweeps:
        points = [row for row in rows if row["sweep"] == sweep.name]
        p = [row["value"] / steps for row in points]
        style = {"color": sweep.colour, "marker": sweep.marker, "ms": 4.5, "lw": 1.4}
        style |= {"elinewidth": 0.6, "label": sweep.name}
        for axis, key, scale in ((left, "distance", 1), (middle, "test_A", 100)):
            axis.errorbar(
                p,
                [scale * row[key] for row in points],
                yerr=[scale * row[f"{key}_half"] for row in points],
                **style,
            )
        right.errorbar(
            [row["distance"] for row in points],
            [100 * row["test_A"] for row in points],
            xerr=[row["distance_half"] for row in points],
            yerr=[100 * row["test_A_half"] for row in points],
            **style,
        )
    left.axhline(sequential["distance"], color="black", ls=":", lw=1, label="sequential")
    middle.axhline(100 * sequential["test_A"], color="black", ls=":", lw=1)
    right.plot(sequential["distance"], 100 * sequential["test_A"], "kX", ms=9)
    for axis in (left, middle):
        axis.set_xscale("log")
        axis.set_xlabel("p, averaging interval / steps of task B")
    distance = "‖θ − θ_o‖ over the trunk"
    left.set_ylabel(distance)
    middle.set_ylabel("test accuracy on task A, %")
    right.set_xlabel(distance)
    right.set_ylabel("test accuracy on task A, %")
    for axis in (left, middle, right):
        axis.grid(alpha=0.25)
    figure.legend(
        *left.get_legend_handles_labels(), fontsize=8, loc="outside upper center", ncols=3
    )
    return figure
