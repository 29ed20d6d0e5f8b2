"""Ranks of the methods on a board, by what their seeds can tell apart.

Two methods are within noise of each other by the report's own rule: the 95 % t interval of their
difference (of equal seeds where there are two or more, else Welch's) contains 0. The method with
the best mean, and all within noise of it, have rank 1; any other has one more than there are
methods that are better than it beyond noise. So a method of many seeds is not put behind a worse
one whose few seeds tell nothing. One seed tells no noise from effect: it has no rank.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from clbench.record.record import Scenario
from clbench.report.group import Group
from clbench.report.metrics import METRICS
from clbench.report.statistics import LEVEL, SAME

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
    if not values:
        return {}
    means = {number: better * fmean(found.values()) for number, found in values.items()}
    best = max(means, key=lambda number: means[number])
    alike = _by_seeds(values)
    made = dict.fromkeys(_level(values[best], alike), 1)
    for number in values.keys() - made.keys():
        level = _level(values[number], alike)
        made[number] = 1 + sum(n not in level for n, its in means.items() if its > means[number])
    return made


#: Numbers of groups with the same seeds, and their scores (groups, seeds), by the seeds.
_Alike = Mapping[tuple[int, ...], tuple[list[int], NDArray[np.float64]]]


def _by_seeds(values: Mapping[int, Mapping[int, float]]) -> _Alike:
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, scores in values.items():
        found[tuple(sorted(scores))].append(number)
    return {
        seeds: (numbers, np.array([[values[n][seed] for seed in seeds] for n in numbers]))
        for seeds, numbers in found.items()
    }


def _level(ours: Mapping[int, float], alike: _Alike) -> set[int]:
    """The groups within noise of one: as :func:`~clbench.report.statistics.difference` has it, of
    hundreds at once."""
    found = set[int]()
    mine = np.array([ours[seed] for seed in sorted(ours)])
    for seeds, (numbers, scores) in alike.items():
        common = [n for n, seed in enumerate(seeds) if seed in ours]
        if len(common) >= LEAST:
            gaps = scores[:, common] - np.array([ours[seeds[n]] for n in common])
            error = gaps.std(axis=1, ddof=1) / np.sqrt(len(common))
            degrees: NDArray[np.float64] | float = len(common) - 1.0
            away = gaps.mean(axis=1)
        else:
            away = scores.mean(axis=1) - mine.mean()
            error, degrees = _welch(scores, mine)
        wide = stdtrit(degrees, (1 + LEVEL) / 2) * error
        close = np.abs(away) <= wide + SAME
        found |= {n for n, near in zip(numbers, close, strict=True) if near}
    return found


def _welch(
    theirs: NDArray[np.float64], ours: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard errors of differences of unpaired means, and their degrees of freedom."""
    parts = np.stack(
        [
            theirs.var(axis=1, ddof=1) / theirs.shape[1],
            np.full(len(theirs), ours.var(ddof=1) / len(ours)),
        ]
    )
    sizes = np.array([[theirs.shape[1]], [len(ours)]])
    spread = parts.sum(axis=0)
    below = (parts**2 / (sizes - 1)).sum(axis=0)
    few = min(theirs.shape[1], len(ours)) - 1.0
    degrees = np.where(spread > (2 * SAME) ** 2, spread**2 / np.where(below > 0, below, 1), few)
    return np.sqrt(spread), degrees
