"""Curves of what a swept parameter trades: the pretrained or past knowledge against the stream."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from clbench.record.record import Scenario
from clbench.report.drawing import (
    COLOURS,
    INK,
    MARKERS,
    PERCENT,
    Drawn,
    dress,
    legend,
    short,
    style,
)
from clbench.report.group import Group
from clbench.report.metrics import METRICS, show
from clbench.report.section import Section
from clbench.report.sweeps import Curve, Point, sweeps

DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
#: Labels nearer to each other than this, in pixels, would overlap.
WIDE, HIGH = 30, 13
#: More curves could not be told apart.
CURVES = 12
POINTS = FuncFormatter(lambda value, _: f"{round(100 * value, 2):+g}" if value else "0")
ABOUT = {"retention": "retention of pretraining", "backward_transfer": "BWT (points)"}


def trade_off(section: Section, scenario: Scenario) -> Drawn | None:
    """Retention, and backward transfer, against overall performance along swept parameters."""
    every = sweeps(section, scenario)
    sides = [side for side in ABOUT if any(_places(sweep.points, side) for sweep in every)]
    found = [sweep for sweep in every if any(_places(sweep.points, side) for side in sides)]
    if not found:
        return None
    shown = found[:CURVES]
    points = {number for sweep in shown for number in sweep.groups}
    marks = [
        group
        for group in section.groups
        if group.finished and group.number not in points and (group.base is not None)
    ]
    figure = Figure(figsize=(9.6, 4.2 + 0.21 * max(0, len(shown) + len(marks) - 14)))
    figure.subplots_adjust(0.08, 0.13, 0.74, 0.95, wspace=0.2)
    axes = figure.subplots(1, len(sides), squeeze=False)[0]
    for axis, side in zip(axes, sides, strict=True):
        for number, sweep in enumerate(shown):
            _curve(axis, sweep, side, number)
        for group in marks:
            _mark(axis, section, group, side, scenario)
        dress(axis, f"OP ({section.scenarios[scenario]})")
        axis.xaxis.set_major_formatter(PERCENT)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_ylabel(ABOUT[side])
        if side == "backward_transfer":
            axis.yaxis.set_major_formatter(POINTS)
        axis.margins(0.12)
        _label(axis, [place for sweep in shown for place in _ends_first(sweep, side)])
    handles: list[Any] = [
        Line2D([], [], **_style(number) | {"ms": 5, "lw": 1.3}) for number in range(len(shown))
    ]
    labels = [sweep.label for sweep in shown]
    for group in marks:
        handles.append(Line2D([], [], ls="", **style(section, group) | {"color": INK}, ms=7))
        labels.append(group.label)
    stars: dict[str, tuple[str, str]] = {
        "chosen": ("chosen on validation", INK),
        "oracle": ("best on test (oracle)", "none"),
    }
    for picked, (about, fill) in stars.items():
        if any(getattr(sweep, picked) for sweep in shown):
            handles.append(Line2D([], [], ls="", marker="*", color=INK, ms=10, mfc=fill))
            labels.append(about)
    legend(figure, handles, ["\n".join(wrap(label, 28)) for label in labels], 90)
    note = f" Shown are {CURVES} of {len(found)} sweeps." if len(found) > CURVES else ""
    return figure, f"{_text(shown, sides, section.scenarios[scenario])}{note}"


def _style(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "ls": DASHES[number % len(DASHES)],
    }


def _places(points: Sequence[Point], side: str) -> list[tuple[float, float, str]]:
    """Where the points lie: overall performance, the score at the side, and the value."""
    found = []
    for point in points:
        x, y = point.scores["overall_performance"], point.scores[side]
        if x is not None and y is not None:
            found.append((x, y, point.text))
    return found


def _curve(axis: Any, sweep: Curve, side: str, number: int) -> None:
    places = _places(sweep.points, side)
    if not places:
        return
    xs, ys, _ = zip(*places, strict=True)
    look = _style(number)
    axis.plot(xs, ys, **look, ms=5, lw=1.3)
    for point, fill in ((sweep.chosen, look["color"]), (sweep.oracle, "none")):
        for x, y, _ in _places([point] if point else [], side):
            # The oracle is larger, so that it stays visible where both picked the same.
            size = 15 if fill == "none" else 10
            axis.plot(x, y, ls="", marker="*", color=look["color"], mfc=fill, ms=size, zorder=5)


def _ends_first(sweep: Curve, side: str) -> list[tuple[float, float, str]]:
    """The places to label: the ends of the curve, then what lies between."""
    places = _places(sweep.points, side)
    return [*places[:1], *places[:0:-1]]


def _label(axis: Any, places: Sequence[tuple[float, float, str]]) -> None:
    """Write the values beside their points, leaving out those that would lie on another."""
    axis.autoscale_view()
    taken: list[tuple[float, float]] = []
    for x, y, text in places:
        right, up = axis.transData.transform((x, y))
        if all(abs(right - a) > WIDE or abs(up - b) > HIGH for a, b in taken):
            taken.append((right, up))
            axis.annotate(short(text, 16), (x, y), (5, 4), textcoords="offset points", fontsize=7)


def _mark(axis: Any, section: Section, group: Group, side: str, scenario: Scenario) -> None:
    x, y = (group.estimate(metric, scenario) for metric in ("overall_performance", side))
    if x and y:
        axis.plot(x.mean, y.mean, ls="", **style(section, group) | {"color": INK}, ms=7)


def _text(shown: Sequence[Curve], sides: Sequence[str], title: str) -> str:
    against = " and ".join(
        METRICS[side].label.lower() if side == "retention" else "BWT" for side in sides
    )
    told = []
    for sweep in shown:
        line = f"{sweep.label}, {len(sweep.points)} values"
        for point, name in ((sweep.chosen, "chosen on validation"), (sweep.oracle, "best on test")):
            if point:
                op = show(point.scores["overall_performance"], "accuracy")
                line += f", {name}: {point.text} (OP {op} %)"
        told.append(line)
    oracle = (
        " The hollow star is the best on test data: nobody could have chosen it."
        if any(sweep.oracle for sweep in shown)
        else ""
    )
    return (
        f"What a parameter trades: {against} against overall performance "
        f"({title}) along its values, which stand beside the points; means "
        f"over seeds, up and to the right is better. {'; '.join(told)}.{oracle}"
    )
