"""Scores of the sweeps of `sfa_two_tasks`, within a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import spearmanr
from two_tasks_sweeps import ENDS, Run, of


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Positions of the points that no other point beats in one way without losing in the other.

    >>> front([(0.9, 0.2), (0.5, 0.5), (0.4, 0.4)])
    [0, 1]
    """
    return [
        i
        for i, p in enumerate(points)
        if not any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)
    ]


def area(points: Sequence[tuple[float, float]]) -> float:
    """Area of the union of the rectangles between (0, 0) and the points.

    >>> round(area([(0.9, 0.2), (0.5, 0.5)]), 6)
    0.33
    """
    total, height = 0.0, 0.0
    for x, y in sorted(points, reverse=True):
        if y > height:
            total += x * (y - height)
            height = y
    return total


def area_by_lines(points: Sequence[tuple[float, float]]) -> float:
    """Area under straight lines from point to point, in place of :func:`area`'s steps.

    >>> round(area_by_lines([(0.9, 0.2), (0.5, 0.6)]), 6)
    0.46
    """
    b, a = zip(*sorted((b, a) for a, b in points), strict=True)
    return float(np.trapezoid((max(a), *a), (0.0, *b)))


def score(
    runs: Sequence[Run],
    sweep: str,
    seed: int,
    rule: Callable[[Sequence[tuple[float, float]]], float] = area,
) -> float:
    """Area under a sweep's front: chosen on the validation parts, measured on the test parts."""
    shown = _with_ends(runs, sweep, seed)
    chosen = front([(run["validation_A"], run["validation_B"]) for run in shown])
    return rule([(shown[i]["test_A"], shown[i]["test_B"]) for i in chosen])


def above(runs: Sequence[Run], one: Run, sweep: str) -> float:
    """How far a run's accuracy on A lies above a sweep's, at its own accuracy on B (by lines)."""
    others = sorted((r["test_B"], r["test_A"]) for r in _with_ends(runs, sweep, one["seed"]))
    b, a = zip(*others, strict=True)
    return float(one["test_A"] - np.interp(one["test_B"], b, a))


def _with_ends(runs: Sequence[Run], sweep: str, seed: int) -> list[Run]:
    return [run for name in (sweep, *ENDS) for run in of(runs, name, seed)]


def best(runs: Sequence[Run], sweep: str, seed: int) -> float:
    """Mean test accuracy of A and B at the value that is best on the validation parts."""
    one = max(of(runs, sweep, seed), key=lambda run: run["validation_A"] + run["validation_B"])
    return (one["test_A"] + one["test_B"]) / 2


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where either does not vary.

    >>> rank_correlation([1, 2, 3], [0.1, 0.3, 0.9]), rank_correlation([1, 2], [0.5, 0.5])
    (1.0, 0.0)
    """
    if len(set(first)) < 2 or len(set(second)) < 2:
        return 0.0
    return round(float(spearmanr(first, second).statistic), 6)
