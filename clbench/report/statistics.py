"""Statistics of few runs: means, intervals, and differences that are more than noise.

[0] Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice*, 2021
    (stratified bootstrap intervals for few runs).
[1] Student, *The Probable Error of a Mean*, 1908 (paired differences of few seeds).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
RESAMPLES = 10_000
#: Two accuracies closer than this are the same number, rounded differently.
SAME = 1e-12
#: Seeds from which an interval is a bootstrap's, and Student's. A bootstrap's of two seeds is the
#: range of the two values, which holds the true mean half of the time; Student's of two is a dozen
#: times as wide as their distance, so that the two values themselves say more.
BOOTSTRAP, STUDENT = 5, 3
#: How an interval was made; ``none``: too few seeds.
Interval = Literal["bootstrap", "t", "none"]


@dataclass(frozen=True)
class Mean:
    """What few runs say about a score, in the score's own unit.

    Attributes:
        mean: over the seeds.
        std: between the seeds (n − 1 in the denominator); None for one seed.
        low: lower end of the 95 % interval of the mean; None if too few seeds tell.
        high: upper end.
        n: number of seeds, of several streams the smallest.
        interval: how the interval was made.
        values: those of the seeds where there are too few for an interval.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    n: int
    interval: Interval = "none"
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Difference:
    """How far a method is from another one.

    Attributes:
        mean: the difference, positive when the first is larger.
        low: lower end of its 95 % interval; None if too few seeds tell.
        high: upper end.
        n: pairs of runs with the same seed, or the smaller number of runs if there is no pair.
        paired: whether runs of the same seed were compared.
        error: standard error of the difference; None if too few seeds tell.
        degrees: of freedom, of Student's t.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    paired: bool
    error: float | None = None
    degrees: float | None = None

    @property
    def p(self) -> float | None:
        """Two-sided p value of there being no difference; None if too few seeds tell."""
        if self.error is None or self.degrees is None:
            return None
        if self.error <= SAME:
            # Equal differences have no spread: the sign test, as in clbench.report.verdicts.
            return 1.0 if abs(self.mean) <= SAME else 2.0 ** (1 - self.n)
        return float(2 * stdtr(self.degrees, -abs(self.mean) / self.error))

    @property
    def interval(self) -> Interval:
        """How the interval was made."""
        return "none" if self.low is None else "t"

    @property
    def within_noise(self) -> bool | None:
        """Whether 0 is in the interval; None if too few seeds tell."""
        if self.low is None or self.high is None:
            return True if self.mean == 0 else None
        return self.low - SAME <= 0 <= self.high + SAME


def mean_of(
    *strata: Sequence[float], within: tuple[float, float] = (-np.inf, np.inf)
) -> Mean | None:
    """Mean, standard deviation and 95 % interval of one score.

    With five seeds or more the interval is a stratified bootstrap's [0]; with three or four it is
    Student's [1], of several streams with Satterthwaite's degrees of freedom; with fewer there is
    none. A stratum is a stream: its runs are drawn anew among themselves, and the mean is that of
    the strata's means. All tasks of a run share one network, so a run is drawn whole; drawing task
    by task, as [0] does for tasks that were trained apart, would make the interval too narrow.

    Args:
        strata: the values of the seeds, one sequence for each stream.
        within: the least and the largest value that the score can have; no interval goes beyond.

    Returns:
        The estimate, or None if a stratum is empty.

    >>> mean_of([0.5, 0.7]).mean
    0.6
    >>> mean_of([0.5]).low is None
    True
    """
    arrays = [np.asarray(values, dtype=np.float64) for values in strata]
    if not arrays or not all(map(len, arrays)):
        return None
    mean = float(np.mean([values.mean() for values in arrays]))
    smallest = min(map(len, arrays))
    few = tuple(map(float, arrays[0])) if len(arrays) == 1 else ()
    if smallest < 2:
        return Mean(mean, None, None, None, smallest, values=few)
    std = float(np.sqrt(np.mean([values.var(ddof=1) for values in arrays])))
    if smallest < STUDENT:
        return Mean(mean, std, None, None, smallest, values=few)
    if smallest < BOOTSTRAP:
        half = _half_width(arrays)
        low, high = max(mean - half, within[0]), min(mean + half, within[1])
        return Mean(mean, std, low, high, smallest, "t")
    means = np.mean([_drawn(len(v), number) @ v for number, v in enumerate(arrays)], axis=0)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Mean(mean, std, float(low), float(high), smallest, "bootstrap")


def _half_width(strata: Sequence[NDArray[np.float64]]) -> float:
    """Half of the 95 % t interval of the mean of the strata's means (Satterthwaite's degrees)."""
    error, degrees = _error(strata)
    return float(stdtrit(degrees, (1 + LEVEL) / 2) * error)


def _error(strata: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Standard error of the mean of the strata's means, and Satterthwaite's degrees of freedom."""
    if len(strata) == 1:
        (only,) = strata
        return float(only.std(ddof=1) / np.sqrt(len(only))), len(only) - 1.0
    parts = np.array([v.var(ddof=1) / len(v) for v in strata]) / len(strata) ** 2
    spread = float(parts.sum())
    if spread <= SAME**2:
        return 0.0, min(map(len, strata)) - 1.0
    degrees = spread**2 / float(
        sum(p**2 / (len(v) - 1) for p, v in zip(parts, strata, strict=True))
    )
    return float(np.sqrt(spread)), degrees


def intervals(found: Iterable[Mean | None]) -> str:
    """What the whiskers of a figure are, to follow the word for what has them.

    >>> intervals([mean_of([0.1, 0.2, 0.3]), mean_of([0.5])])
    'with 95 % t intervals where there are three seeds or more'
    >>> intervals([mean_of([0.1, 0.2])])
    'without intervals, for want of seeds'
    """
    kinds = {one.interval for one in found if one is not None}
    names = {"bootstrap": "bootstrap", "t": "t"}
    told = " or ".join(name for kind, name in names.items() if kind in kinds)
    if not told:
        return "without intervals, for want of seeds"
    return f"with 95 % {told} intervals" + " where there are three seeds or more" * (
        "none" in kinds
    )


def mean_ranks(methods: Sequence[Sequence[Sequence[float]]]) -> list[Mean]:
    """Mean over streams of each method's rank, 1 the largest, with bootstrap interval [0].

    Ranks have no t interval: with fewer than five seeds on a stream there is none.

    Methods with the same number of runs on a stream are drawn together: give their seeds in the
    same order. Equal means share the mean of their ranks.

    Args:
        methods: the values of the seeds, for each method one sequence for each stream.

    Returns:
        The estimates, in the order of the methods.

    >>> [e.mean for e in mean_ranks([[[0.9], [0.5]], [[0.8], [0.6]], [[0.1], [0.1]]])]
    [1.5, 1.5, 3.0]
    """
    streams = range(len(methods[0]) if methods else 0)
    once = [_ranks(np.array([[np.mean(method[s]) for method in methods]])) for s in streams]
    means = np.mean(once, axis=0)[0]
    smallest = min((len(values) for method in methods for values in method), default=0)
    if smallest < BOOTSTRAP:
        return [Mean(float(mean), None, None, None, smallest) for mean in means]
    drawn = np.zeros((RESAMPLES, len(methods)))
    for s in streams:
        scores = [_drawn(len(method[s]), s) @ np.asarray(method[s]) for method in methods]
        drawn += _ranks(np.stack(scores, axis=1)) / len(streams)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [
        Mean(float(mean), None, float(a), float(b), smallest, "bootstrap")
        for mean, a, b in zip(means, low, high, strict=True)
    ]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks (N, M) within each row, 1 the largest; equal values share the mean of theirs."""
    ranks = np.full(values.shape, 0.5)
    for column in values.T:
        away = column[:, None] - values
        ranks += (away > SAME) + 0.5 * (np.abs(away) <= SAME)
    return ranks


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """Mean difference of two methods with its 95 % t interval [1].

    Runs with the same seed are paired. Without a common seed the interval is Welch's. The t
    interval is kept honest for two or three seeds, where a bootstrap's is far too narrow; it is
    not corrected for comparing many methods: :mod:`clbench.report.verdicts` is.

    Args:
        ours: the score of each seed.
        theirs: the same for the method to compare with.

    Returns:
        The difference ``ours - theirs``, or None if either has no runs.

    >>> d = difference({0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.6})
    >>> round(d.mean, 6), d.n, d.paired
    (0.1, 2, True)
    """
    if not ours or not theirs:
        return None
    common = sorted(ours.keys() & theirs.keys())
    if common:
        gaps = np.array([ours[seed] - theirs[seed] for seed in common])
        mean, n = float(gaps.mean()), len(gaps)
        if n < 2:
            return Difference(mean, None, None, n, True)
        return _measured(mean, n, True, *_error([gaps]))
    a, b = (np.array(list(values.values())) for values in (ours, theirs))
    mean, n = float(a.mean() - b.mean()), min(len(a), len(b))
    if n < 2:
        return Difference(mean, None, None, n, False)
    error, degrees = _error([a, b])
    return _measured(mean, n, False, 2 * error, degrees)  # of a difference, not of a mean of two


def _measured(mean: float, n: int, paired: bool, error: float, degrees: float) -> Difference:
    half = float(stdtrit(degrees, (1 + LEVEL) / 2) * error)
    return Difference(mean, mean - half, mean + half, n, paired, error, degrees)


def mean_difference(*strata: Mapping[int, float]) -> Difference | None:
    """Mean over streams of paired differences, with its 95 % t interval.

    Args:
        strata: the difference of each seed, one mapping for each stream.

    Returns:
        The mean, or None if a stream has no pair.
    """
    arrays = [np.array(list(gaps.values())) for gaps in strata]
    if not arrays or not all(map(len, arrays)):
        return None
    mean, n = float(np.mean([gaps.mean() for gaps in arrays])), min(map(len, arrays))
    if n < 2:
        return Difference(mean, None, None, n, True)
    return _measured(mean, n, True, *_error(arrays))


@lru_cache(maxsize=64)
def _drawn(count: int, stratum: int) -> NDArray[np.float64]:
    """Weights (RESAMPLES, count) of drawing ``count`` runs with replacement; the same each time."""
    draw = np.random.default_rng((7, count, stratum))
    return draw.multinomial(count, [1 / count] * count, size=RESAMPLES) / count
