"""Ranks of the methods on a board, by what their seeds can tell apart.

The method with the best mean has rank 1, and so has every other whose difference from it is within
noise, by the report's own rule: the 95 % t interval of the difference (of equal seeds where there
are two or more, else Welch's) contains 0. The best of the rest has the next rank, counted by the
methods before it, and so on. One seed tells no noise from effect: a method with one has no rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from clbench.record.record import Scenario
from clbench.report.group import Group
from clbench.report.metrics import METRICS
from clbench.report.statistics import Difference, difference

#: Fewer seeds have no spread to judge a difference by.
LEAST = 2
RULE = (
    "Rank: 1 has the best mean OP, and every row whose difference from it is within noise (its "
    "95 % t interval contains 0; of equal seeds, or Welch’s where fewer than two seeds are equal); "
    "the best of the rest has the next rank, and so on. Intervals are not corrected for the "
    "number of rows. A row with one seed has no rank; neither has the multitask bound, nor what "
    "stands here for reference only."
)


def ranks(groups: Sequence[Group], scenario: Scenario) -> dict[int, int]:
    """The rank of each group, by its number; rivals with enough seeds have one.

    >>> ranks([], "task_incremental")
    {}
    """
    metric = "overall_performance"
    better = METRICS[metric].better
    values = {g.number: g.by_seed(metric, scenario) for g in groups if g.rival}
    left = {number: found for number, found in values.items() if len(found) >= LEAST}
    made: dict[int, int] = {}
    while left:
        best = max(left, key=lambda number: better * fmean(left[number].values()))
        rank = len(made) + 1
        for number in [n for n in left if n == best or _tied(left[n], left[best])]:
            made[number] = rank
            if number != best:
                del left[number]
        del left[best]
    return made


def apart(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """The difference of two methods that have two seeds each: paired where two seeds are equal."""
    if 0 < len(ours.keys() & theirs.keys()) < LEAST:
        theirs = dict(enumerate(theirs.values(), max(ours) + 1))
    return difference(ours, theirs)


def _tied(ours: Mapping[int, float], theirs: Mapping[int, float]) -> bool:
    gap = apart(ours, theirs)
    return gap is not None and bool(gap.within_noise)
