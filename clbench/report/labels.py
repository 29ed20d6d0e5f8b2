"""Names beside their points: none on another name or on a point, the most important first."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clbench.report.drawing import INK

#: Distances of a name from its point in points, and directions, that are tried in turn.
FAR = (5.0, 12.0, 20.0, 30.0, 42.0)
TURNS = (0, 45, -45, 180, 135, -135, 90, -90)
#: A name further than this from its point is joined to it by a line.
NEAR = 6.0
#: Half of the width of a marker.
MARKER = 3.5


@dataclass(frozen=True)
class Label:
    """A name for a point.

    Attributes:
        x: of the point, in the axis' units.
        y: the same upwards.
        text: the name; an empty one only keeps the others off the point.
        colour: of the text.
        bold: whether it stands out.
    """

    x: float
    y: float
    text: str
    colour: str = INK
    bold: bool = False


Box = tuple[float, float, float, float]
#: A line from one place to another, in the axis' units.
Stroke = tuple[tuple[float, float], tuple[float, float]]


def place(
    axis: Any, labels: Sequence[Label], strokes: Sequence[Stroke] = (), size: float = 7.5
) -> list[str]:
    """Write names beside their points.

    Args:
        axis: with its final limits.
        labels: of all points, the most important first.
        strokes: lines to keep off where there is room elsewhere.
        size: of the type, in points.

    Returns:
        The names for which there is no room.
    """
    scale = 72 / axis.figure.dpi
    points = [tuple(scale * v for v in axis.transData.transform((i.x, i.y))) for i in labels]
    frame = axis.get_window_extent()
    room = tuple(scale * v for v in (frame.x0, frame.y0, frame.x1, frame.y1))
    taken: list[Box] = [(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points]
    lines = [box for stroke in strokes for box in _boxes(axis, stroke, scale)]
    left = []
    for label, (x, y) in zip(labels, points, strict=True):
        if not label.text:
            continue
        extent = _width(label.text, size), 1.1 * size
        found = _free(x, y, *extent, room, [*taken, *lines]) or _free(x, y, *extent, room, taken)
        if found is None:
            left.append(label.text)
            continue
        box, far = found
        taken.append(box)
        middle = (box[1] + box[3]) / 2
        line = {"arrowstyle": "-", "color": label.colour, "lw": 0.5, "alpha": 0.7, "shrinkA": 0}
        axis.annotate(
            label.text,
            (label.x, label.y),
            (box[0] - x, middle - y),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=label.colour,
            fontweight="bold" if label.bold else "normal",
            arrowprops=line if far > NEAR else None,
        )
    return left


def _free(
    x: float, y: float, width: float, height: float, room: Sequence[float], taken: Sequence[Box]
) -> tuple[Box, float] | None:
    """The first free place near a point, and its distance."""
    for far in FAR:
        for turn in TURNS:
            right, up = math.cos(math.radians(turn)), math.sin(math.radians(turn))
            left = x + far * right - width * (1 - right) / 2
            low = y + far * up - height * (1 - up) / 2
            box = (left, low, left + width, low + height)
            inside = box[0] >= room[0] and box[1] >= room[1] + 1
            inside &= box[2] <= room[2] and box[3] <= room[3]
            if inside and not any(_overlap(box, other) for other in taken):
                return box, far
    return None


def _boxes(axis: Any, stroke: Stroke, scale: float) -> list[Box]:
    """A line as small boxes, four points apart."""
    (x, y), (a, b) = (
        (scale * u, scale * v) for u, v in (axis.transData.transform(end) for end in stroke)
    )
    count = int(math.hypot(a - x, b - y) / 4) + 1
    places = ((x + (a - x) * i / count, y + (b - y) * i / count) for i in range(count + 1))
    return [(u - 0.5, v - 0.5, u + 0.5, v + 0.5) for u, v in places]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _width(text: str, size: float) -> float:
    """About the width of a text: what a browser draws it with is not known here."""
    return size * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.6 for c in text)
