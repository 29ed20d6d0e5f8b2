"""Methods as named points in a panel: the front stands out, what it dominates steps back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from clbench.record.baselines import PLAIN
from clbench.record.record import Scenario
from clbench.report.drawing import COLOURS, GREY, INK, short
from clbench.report.group import Group
from clbench.report.labels import Label, Stroke, place
from clbench.report.section import Section
from clbench.report.statistics import Mean
from clbench.report.sweeps import Curve, sweeps

FRONT, BASE = COLOURS[0], COLOURS[3]
#: Colours of methods at several settings; more curves could not be told apart.
CURVES = (COLOURS[2], COLOURS[1], COLOURS[4], COLOURS[5])
#: Names are cut to this, so that they find room; those with a setting may be longer.
NAME, SETTING = 24, 36


@dataclass(frozen=True)
class Spot:
    """A method's place.

    Attributes:
        group: the method.
        x: its score to the right.
        y: its score upwards.
        front: whether no other method is better in both; the multitask bound does not compete.
        beyond: where it is, if that is out of the picture: it is drawn at the edge.
    """

    group: Group
    x: float
    y: float
    front: bool
    beyond: tuple[float, float] | None = None


@dataclass(frozen=True)
class Panel:
    """One panel of methods.

    Attributes:
        axis: matplotlib's.
        spots: the methods.
        families: methods at several settings, each drawn as a curve.
        strokes: lines that were drawn, for names to keep off.
    """

    axis: Any
    spots: Sequence[Spot]
    families: Sequence[Curve]
    strokes: list[Stroke] = field(default_factory=list)


def families(section: Section, scenario: Scenario) -> list[Curve]:
    """Methods at several settings, those at most of them first; a group is in one of them."""
    found, taken = list[Curve](), set[int]()
    over_runs = [sweep for sweep in sweeps(section, scenario) if len(sweep.groups) > 1]
    for sweep in sorted(over_runs, key=lambda sweep: -len(sweep.groups)):
        if not taken & {*sweep.groups} and len(found) < len(CURVES):
            found.append(sweep)
            taken |= {*sweep.groups}
    return found


def spots(places: Sequence[tuple[Group, float, float]]) -> list[Spot]:
    """Methods at their places, with whether they are on the Pareto front."""
    rivals = [place for place in places if place[0].rival]
    best = {rivals[i][0].number for i in pareto([(x, y) for _, x, y in rivals])}
    return [Spot(group, x, y, group.number in best) for group, x, y in places]


def drawn_in(found: Sequence[Spot], floors: tuple[float | None, float | None]) -> list[Spot]:
    """The methods with those below a floor moved to it, as a picture that begins there has them."""

    def move(spot: Spot) -> Spot:
        x, y = (
            value if floor is None else max(value, floor)
            for value, floor in zip((spot.x, spot.y), floors, strict=True)
        )
        place = (spot.x, spot.y)
        return spot if (x, y) == place else Spot(spot.group, x, y, False, place)

    return list(map(move, found))


def floor(found: Sequence[Spot], values: Sequence[float]) -> float | None:
    """Where an axis begins, if a few methods far below would press all others into a corner.

    Cut off are at most a quarter of the methods, none of the front and no baseline, and only if
    that leaves less than half of the range.

    Args:
        found: the methods.
        values: their places on the axis.
    """
    ranked = sorted(zip(values, found, strict=True), key=lambda pair: pair[0])
    if not ranked:
        return None
    top, bottom = ranked[-1][0], ranked[0][0]
    for number, (value, spot) in enumerate(ranked):
        if top - value < (top - bottom) / 2:
            return value - 0.1 * (top - value) if number else None
        if spot.front or base(spot.group) or 4 * (number + 1) > len(ranked):
            return None
    return None


def base(group: Group) -> bool:
    """Whether a group is a baseline."""
    return group.base is not None


def scatter(panel: Panel) -> None:
    """Draw the points, the curves of methods at several settings, and the front."""
    by_number = {spot.group.number: (spot.x, spot.y) for spot in panel.spots}
    front = sorted((spot.x, spot.y) for spot in panel.spots if spot.front)
    lines = [(front, {"color": INK, "lw": 0.9, "ls": "--", "zorder": 0})]
    for number, sweep in enumerate(panel.families):
        line = [by_number[i] for i in sweep.groups if i in by_number]
        lines.append((line, {"color": CURVES[number], "lw": 1.1, "zorder": 1.5}))
    for line, look in lines:
        if line:
            panel.axis.plot(*zip(*line, strict=True), **look)
            panel.strokes.extend(pairwise(line))
    for spot in panel.spots:
        look = _look(spot, panel.families)
        panel.axis.plot(spot.x, spot.y, ls="", zorder=3 if spot.front else 2, **look)


def whiskers(panel: Panel, x: Mean, y: Mean) -> None:
    """Draw the intervals of a point, where they are known."""
    for low, high, across in ((x.low, x.high, True), (y.low, y.high, False)):
        if low is None or high is None:
            continue
        ends = ((low, y.mean), (high, y.mean)) if across else ((x.mean, low), (x.mean, high))
        panel.axis.plot(*zip(*ends, strict=True), color=GREY, lw=0.8, zorder=1)
        panel.strokes.append(ends)


def name(panel: Panel, every: bool = True) -> list[str]:
    """Write the methods' names beside their points, when the limits are final.

    Args:
        panel: with its points.
        every: name the dominated methods too.

    Returns:
        The methods for which there is no room.
    """
    panel.axis.autoscale_view()
    settings: dict[int, str] = {}
    # A suite's own name tells of other settings, too; one that was made up has them in it.
    made_up = {"+".join(spot.group.runs[0].methods) for spot in panel.spots}
    own = {
        spot.group.number: spot.group.label
        for spot in panel.spots
        if "=" not in spot.group.label and spot.group.label not in made_up
    }
    ends = set[int]()
    for sweep in panel.families:
        drawn = [i for i in sweep.groups if any(s.group.number == i for s in panel.spots)]
        ends |= {*drawn[-1:]}
        for number, point in zip(sweep.groups, sweep.points, strict=True):
            text = f"{sweep.label} = {point.text}" if number in ends else point.text
            settings[number] = own.get(number, text) if number in ends else text

    def rank(spot: Spot) -> int:
        number = spot.group.number
        if spot.front or base(spot.group) or number in ends:
            return 0
        return 1 if number in settings else 2

    labels = []
    for spot in sorted(panel.spots, key=rank):
        number = spot.group.number
        text = settings.get(number, spot.group.label)
        text = short(text, SETTING if number in settings else NAME)
        if spot.beyond:
            text += " ({:.0%}, {:.0%})".format(*spot.beyond)
        leads = rank(spot) == 0
        colour = INK if leads or number in settings else GREY
        labels.append(Label(spot.x, spot.y, text if every or leads else "", colour, spot.front))
    return place(panel.axis, labels, panel.strokes, 7.5 if every else 7)


def marker_legend(figure: Figure, panels: Sequence[Panel]) -> None:
    """What the markers are, above the panels."""
    found = [spot for panel in panels for spot in panel.spots]
    handles = []
    if any(spot.front for spot in found):
        look: dict[str, Any] = {"mfc": FRONT, "mec": FRONT, "marker": "o", "ms": 6.5, "ls": "--"}
        handles.append(Line2D([], [], color=INK, lw=0.9, label="on the Pareto front", **look))
    if any(_look(spot, panels[0].families)["color"] == GREY for spot in found):
        handles.append(Line2D([], [], ls="", marker="o", ms=4, color=GREY, label="dominated"))
    if any(spot.group.base == PLAIN for spot in found):
        handles.append(Line2D([], [], ls="", marker="s", ms=6, color=BASE, label=PLAIN))
    if any(spot.group.kind == "bound" for spot in found):
        look = {"marker": "D", "ms": 6, "mfc": "none"}
        handles.append(Line2D([], [], ls="", color=INK, label="multitask bound", **look))
    drawn = {spot.group.number for spot in found}
    for colour, sweep in zip(CURVES, panels[0].families, strict=False):
        if len(drawn & {*sweep.groups}) > 1:
            look = {"color": colour, "lw": 1.1, "marker": "o", "ms": 4}
            handles.append(Line2D([], [], label=short(sweep.label, NAME), **look))
    figure.legend(
        handles=handles,
        loc="upper center",
        ncols=len(handles),
        fontsize=7.5,
        frameon=False,
        columnspacing=1.2,
        handletextpad=0.5,
    )


def _look(spot: Spot, among: Sequence[Curve]) -> dict[str, Any]:
    """Marker of a method."""
    if spot.group.kind == "bound":
        return {"marker": "D", "ms": 6, "color": INK, "mfc": "none"}
    if spot.group.base == PLAIN:
        return {"marker": "s", "ms": 6, "color": BASE}
    if spot.beyond:
        return {"marker": "v" if spot.y > spot.beyond[1] else "<", "ms": 5, "color": GREY}
    colour = FRONT if spot.front else GREY
    for number, sweep in enumerate(among):
        if spot.group.number in sweep.groups:
            colour = CURVES[number]
    return {"marker": "o", "ms": 6.5 if spot.front else 4, "color": colour}


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point beats in both coordinates, from left to right.

    >>> pareto([(1, 3), (2, 2), (1, 2), (3, 1)])
    [0, 1, 3]
    """
    order = sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1]))
    front, best = [], float("-inf")
    for index in order:
        if points[index][1] > best:
            front.append(index)
            best = points[index][1]
    return front[::-1]
