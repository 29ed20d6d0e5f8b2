"""Ranks of the methods on a board, by what their seeds can tell apart.

Two methods are within noise of each other by the report's own rule: the 95 % t interval of their
difference (of equal seeds where there are two or more, else Welch's) contains 0. The method with
the best mean, and all within noise of it, have rank 1; any other has one more than there are
methods that are better than it beyond noise. So a method of many seeds is not put behind a worse
one whose few seeds tell nothing. One seed tells no noise from effect: it has no rank.
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
    "Rank: 1 for the best mean OP and every row within noise of it, that is, whose 95 % t interval "
    "of the difference contains 0 (of equal seeds, or Welch’s where fewer than two are equal); for "
    "any other row, one more than there are rows that are better beyond noise. The intervals are "
    "not corrected for the number of rows. A row with one seed has no rank; neither has what "
    "stands here for reference, as the multitask bound."
)


def ranks(groups: Sequence[Group], scenario: Scenario) -> dict[int, int]:
    """The rank of each group, by its number; rivals with enough seeds have one.

    >>> ranks([], "task_incremental")
    {}
    """
    metric = "overall_performance"
    better = METRICS[metric].better
    every = {g.number: g.by_seed(metric, scenario) for g in groups if g.rival}
    values = {number: found for number, found in every.items() if len(found) >= LEAST}
    means = {number: better * fmean(found.values()) for number, found in values.items()}
    if not means:
        return {}
    best = max(means, key=lambda number: means[number])
    made = {}
    for number, mean in means.items():
        if number == best or _tied(values[number], values[best]):
            made[number] = 1
            continue
        above = (values[other] for other, its in means.items() if its > mean)
        made[number] = 1 + sum(not _tied(values[number], other) for other in above)
    return made


def apart(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """The difference of two methods that have two seeds each: paired where two seeds are equal."""
    if 0 < len(ours.keys() & theirs.keys()) < LEAST:
        theirs = dict(enumerate(theirs.values(), max(ours) + 1))
    return difference(ours, theirs)


def _tied(ours: Mapping[int, float], theirs: Mapping[int, float]) -> bool:
    gap = apart(ours, theirs)
    return gap is None or gap.within_noise is not False
