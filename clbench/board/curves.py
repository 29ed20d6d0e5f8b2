"""The curves of one run as lines for a small picture; drawn by the page's template.

Thousands of these are made: matplotlib takes a quarter of a second for each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from clbench.record.record import Record, Scenario

#: Size of the picture's inside, in its own units.
WIDTH, HEIGHT = 600, 180
#: Lines, and points of a line, at most; the record has the rest.
LINES, POINTS = 40, 120
#: Of more lines, none is named; names are so far apart.
NAMED, APART = 12, 12


@final
@dataclass(frozen=True)
class TaskLine:
    """Accuracy on a task over the steps of the stream.

    Attributes:
        task: its number, from 1.
        shade: place among the colours, from 0 (the first task) to 1.
        places: of its points, x to the right and y downwards, as SVG has them.
    """

    task: int
    shade: float
    places: Sequence[tuple[float, float]]

    @property
    def points(self) -> str:
        """The places as a polyline has them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.places)


@final
@dataclass(frozen=True)
class Curves:
    """All lines of a scenario.

    Attributes:
        lines: of the tasks.
        names: how far down the name of each line stands; none where there are too many.
        starts: where each task after the first begins, to the right.
        steps: of the whole stream.
        left: lines that are left out.
    """

    lines: Sequence[TaskLine]
    names: Sequence[float]
    starts: Sequence[float]
    steps: int
    left: int


def curves_of(record: Record, scenario: Scenario) -> Curves | None:
    """The curves of a run; None if it was looked at once only, or made no steps."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for event in record.tasks:
        for step, measured in event.course():
            for task, value in zip(measured.evaluated, measured.of(scenario), strict=True):
                found[task][step] = value
    end = max((step for points in found.values() for step in points), default=0)
    if end == 0 or max(map(len, found.values())) < 2:
        return None
    count = len(record.run.tasks)
    lines = [
        TaskLine(task + 1, task / max(1, count - 1), _places(_thinned(sorted(points.items())), end))
        for task, points in sorted(found.items())[:LINES]
    ]
    starts = [WIDTH * event.last_step / end for event in record.tasks[: LINES - 1]]
    names = _spread([line.places[-1][1] for line in lines]) if len(lines) <= NAMED else []
    return Curves(lines, names, starts[: count - 1], end, len(found) - len(lines))


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """At most :data:`POINTS` of the points, the last among them."""
    stride = -(-len(points) // POINTS)
    return points if stride == 1 else [*points[:-1:stride], points[-1]]


def _places(points: Sequence[tuple[int, float]], end: int) -> list[tuple[float, float]]:
    return [(WIDTH * step / end, HEIGHT * (1 - value)) for step, value in points]


def _spread(wanted: Sequence[float]) -> list[float]:
    """Places near those that are wanted, none too near to another."""
    made, last = [0.0] * len(wanted), -float("inf")
    for number in sorted(range(len(wanted)), key=lambda n: wanted[n]):
        made[number] = last = max(wanted[number], last + APART)
    below = max(0.0, last - HEIGHT)
    return [place - below for place in made]
