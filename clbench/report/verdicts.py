"""Whether paired differences decide a claim: one rule for every page, table and study.

A claim is about the mean of paired differences (equal seeds, in the claim's favour if positive). It
is tested by Student's t in both directions at 95 %, corrected over all claims of a page by Holm's
step-down procedure [0]: reproduced if the differences say that it holds, not reproduced if they say
that it does not, too small to count if what there may be of it is less than the claim's margin, and
else too noisy to say, with the number of seeds that it would take. What
cannot be tested, as more differs than the claim is about, is none: it is "not a test".

Fewer than three pairs decide nothing. Equal differences have no spread, and Student's t would be
sure of any: their sign test decides, p = 2⁻ⁿ on one side, as if each had been as likely to be on
the other.

[0] Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import nctdtr, nctdtrinc, ndtr, stdtr, stdtrit

from clbench.report.statistics import LEVEL, SAME, Difference, difference

#: Share of wrong decisions on a page where no claim holds; and of true ones that are seen.
ALPHA, POWER = 1 - LEVEL, 0.8
#: Fewer pairs decide nothing.
LEAST = 3
#: Nobody runs more seeds.
MOST = 10_000
Outcome = Literal[
    "reproduced", "not reproduced", "too small to count", "too noisy to say", "not a test"
]
#: Those that decide a claim.
DECIDED: tuple[Outcome, ...] = ("reproduced", "not reproduced", "too small to count")
#: ``above``: the mean is above 0, and no less than ``margin`` if that is given; ``no_less``: it is
#: above −``margin``; ``equal``: it lies between −``margin`` and ``margin``.
ClaimKind = Literal["above", "no_less", "equal"]
RULE = (
    "By one rule: the paired difference of equal seeds, positive in the claim's favour, with its "
    "95 % t interval; its two-sided p is corrected by Holm over all claims of the page (and "
    "multiplied by the looks where seeds were added after a first), and a "
    "claim is reproduced or not reproduced where the corrected p is below 0.05, by the sign; it is "
    "too small to count where the difference is below the claim's margin for certain, and not "
    "below 0; less than three pairs decide nothing. "
    "*Could see*: the smallest difference (of what is claimed to be equal, the smallest margin) "
    "that so many seeds show with 80 % power at the level "
    "that Holm leaves, given the spread of the differences. *Would take*: the seeds that show the "
    "difference found. Not a test: more differs than what the claim is about."
)


@dataclass(frozen=True)
class Question:
    """A claim about the mean of paired differences.

    Attributes:
        gaps: the differences, one for each seed that both have.
        kind: what is claimed of their mean.
        margin: of ``no_less`` and ``equal``; of ``above`` the smallest difference that counts.
        unfair: reasons why the differences do not test the claim.
        others: differences from further rivals, for all of which it is claimed: it holds if it does
            for each, and fails if it does for one, corrected for looking at so many.
    """

    gaps: Sequence[float]
    kind: ClaimKind = "above"
    margin: float = 0.0
    unfair: tuple[str, ...] = ()
    others: tuple[Sequence[float], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the differences say.

    Attributes:
        outcome: in words.
        gap: mean and 95 % t interval, not corrected; None without a pair.
        p: two-sided, corrected by Holm; None for what was not tested.
        could_see: the smallest difference, from each rival, that so many seeds show with 80 % power
            if it is there; of ``equal`` the smallest margin if there is none; None below three.
        would_take: seeds that show the differences found with 80 % power, where it is too noisy;
            None if decided, or if no number up to :data:`MOST` does.
        unfair: why it is not a test.
    """

    outcome: Outcome
    gap: Difference | None
    p: float | None = None
    could_see: float | None = None
    would_take: int | None = None
    unfair: tuple[str, ...] = ()


def judge(questions: Sequence[Question], looks: int = 1) -> list[Verdict]:
    """The verdicts on all claims of a page, in order.

    Args:
        questions: the claims.
        looks: how often they were judged, this time included, while runs were being added: p is
            multiplied by it (Bonferroni), as each look is a chance to be wrong.

    >>> one, other = judge([Question([0.1, 0.11, 0.12]), Question([0.1, -0.1, 0.12])])
    >>> one.outcome, other.outcome
    ('reproduced', 'too noisy to say')
    """
    asked = [number for number, q in enumerate(questions) if not q.unfair]
    sides = {number: _sides(questions[number]) for number in asked}
    alone = [min(1.0, looks * 2 * min(sides[number])) for number in asked]
    corrected = dict(zip(asked, holm(alone), strict=True))
    decided = sum(p < ALPHA for p in corrected.values())
    order = sorted(asked, key=lambda number: corrected[number])
    found = []
    for number, question in enumerate(questions):
        gap = difference(
            dict(enumerate(question.gaps)), dict.fromkeys(range(len(question.gaps)), 0)
        )
        if number not in corrected:
            found.append(Verdict("not a test", gap, unfair=question.unfair))
            continue
        p = corrected[number]
        level = ALPHA / looks / (len(asked) - min(order.index(number), decided, len(asked) - 1))
        could_see = _could_see(question, level)
        if p < ALPHA:
            found.append(Verdict(_decided(question, sides[number], level), gap, p, could_see))
            continue
        found.append(Verdict("too noisy to say", gap, p, could_see, _would_take(question, level)))
    return found


def holm(values: Sequence[float]) -> list[float]:
    """P values, corrected for testing all of them (Holm's step-down procedure), in their order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(values), 0.0
    for rank, number in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[number]))
        corrected[number] = largest
    return corrected


def corrected(gaps: Sequence[Difference | None]) -> list[float | None]:
    """P values of differences, corrected by Holm for being so many; None where none is known."""
    values = [None if gap is None else gap.p for gap in gaps]
    after = iter(holm([p for p in values if p is not None]))
    return [None if p is None else next(after) for p in values]


def seen(gap: Difference | None) -> float | None:
    """The smallest difference that its seeds show with 80 % power; None if too few tell."""
    if gap is None or gap.error is None or gap.degrees is None:
        return None
    critical = float(stdtrit(gap.degrees, 1 - ALPHA / 2))
    return float(nctdtrinc(gap.degrees, 1 - POWER, critical)) * gap.error


def smallest_difference(spread: float, n: int, level: float = ALPHA, power: float = POWER) -> float:
    """The smallest mean of ``n`` paired differences that a two-sided t test sees.

    Args:
        spread: standard deviation of the differences.
        n: of them, two at least.
        level: of the test.
        power: with which it is seen.
    """
    critical = float(stdtrit(n - 1, 1 - level / 2))
    return float(nctdtrinc(n - 1, 1 - power, critical)) * spread / math.sqrt(n)


def seeds_needed(spread: float, away: float, level: float = ALPHA) -> int | None:
    """The number of pairs from which a t test sees a difference with 80 % power.

    Args:
        spread: standard deviation of the differences.
        away: the difference.
        level: of the test.

    Returns:
        The number, three at least, or None if it is above :data:`MOST`.
    """
    return None if away <= SAME else _first(lambda n: _missed(spread, away, n, level) <= 1 - POWER)


def _first(enough: Callable[[int], bool]) -> int | None:
    """The first number of pairs that is enough, where all above it are; None above `MOST`."""
    if not enough(MOST):
        return None
    low, high = LEAST - 1, MOST  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _missed(spread: float, away: float, n: int, level: float) -> float:
    """How often a two-sided t test of ``n`` pairs misses a mean that is so far ``away``."""
    if spread <= SAME:  # the sign test sees it always, or never
        return float(2.0 ** (1 - n) >= level)
    critical, shift = float(stdtrit(n - 1, 1 - level / 2)), away * math.sqrt(n) / spread
    if shift > 40 * critical:  # beyond what the non-central t is computed for
        return 0.0
    missed = float(nctdtr(n - 1, shift, critical))
    return 0.0 if math.isnan(missed) else missed  # which it is for some of the smallest numbers


def _decided(question: Question, sides: tuple[float, float], level: float) -> Outcome:
    """Which of the outcomes it is, of a claim that is decided."""
    holds, fails = sides
    if holds < fails:
        return "reproduced"
    rivals = (question.gaps, *question.others)
    if question.kind == "above" and question.margin:
        below = min(_above(gaps, 0.0, -1) for gaps in rivals)
        if 2 * min(1.0, len(rivals) * below) >= level:
            return "too small to count"
    return "not reproduced"


def _sides(question: Question) -> tuple[float, float]:
    """One-sided p values of the claim's holding and of its failing; 1 where too few seeds tell."""
    rivals = (question.gaps, *question.others)
    each = [_sides_of(gaps, question.kind, *_bounds(question)) for gaps in rivals]
    return max(p for p, _ in each), min(1.0, len(each) * min(p for _, p in each))


def _sides_of(
    gaps: Sequence[float], kind: ClaimKind, low: float, high: float
) -> tuple[float, float]:
    if kind == "equal":  # holds within both bounds, fails beyond one
        holds = max(_above(gaps, low), _above(gaps, high, -1))
        return holds, min(_above(gaps, low, -1), _above(gaps, high))
    counts = sum(gaps) >= high * len(gaps)  # what lies between the bounds is too small to hold
    return _above(gaps, low) if counts else 1.0, _above(gaps, high, -1)


def _bounds(question: Question) -> tuple[float, float]:
    """Above the first the claim holds, below the second it fails; of ``equal``, its two ends."""
    if question.kind == "above":
        return 0.0, question.margin
    return -question.margin, question.margin if question.kind == "equal" else -question.margin


def _above(gaps: Sequence[float], bound: float, sign: int = 1) -> float:
    """One-sided p value of a t test that the mean is above a bound, or with −1 below."""
    if len(gaps) < LEAST:
        return 1.0
    away, spread = sign * (sum(gaps) / len(gaps) - bound), _spread(gaps)
    if spread <= SAME:
        return 2.0 ** -len(gaps) if away > SAME else 1.0
    return float(stdtr(len(gaps) - 1, -away * math.sqrt(len(gaps)) / spread))


def _could_see(question: Question, level: float) -> float | None:
    """What so many seeds show with 80 % power, all tests that must pass taken together."""
    rivals = (question.gaps, *question.others)
    if min(map(len, rivals)) < LEAST:
        return None
    # By Bonferroni: if none of k tests is missed more often than (1 - power)/k, seldom is any.
    tests = len(rivals) * (2 if question.kind == "equal" else 1)
    power = 1 - (1 - POWER) / tests
    return max(smallest_difference(_spread(g), len(g), level, power) for g in rivals)


def _would_take(question: Question, level: float) -> int | None:
    """Seeds that decide a claim with 80 % power if means and spreads are those that were found."""
    rivals = (question.gaps, *question.others)
    if min(map(len, rivals)) < LEAST:
        return None
    found = [(sum(gaps) / len(gaps), _spread(gaps)) for gaps in rivals]
    low, high = _bounds(question)
    if question.kind == "equal":
        beyond = [(abs(mean) - high, spread) for mean, spread in found if abs(mean) >= high]
    else:
        beyond = [(high - mean, spread) for mean, spread in found if mean < high]
    if beyond:  # it fails if it does for one rival, by a test that is corrected for all
        takes = [seeds_needed(s, away, level / len(rivals)) for away, s in beyond]
        return min((n for n in takes if n is not None), default=None)

    def missed(mean: float, spread: float, n: int) -> float:
        miss = _missed(spread, mean - low, n, level)
        if question.kind == "equal":
            return miss + _missed(spread, high - mean, n, level)
        if high > low and spread > SAME:  # the mean must be above what is too small to hold, too
            miss += float(ndtr((high - mean) * math.sqrt(n) / spread))
        return miss

    return _first(lambda n: sum(missed(*one, n) for one in found) <= 1 - POWER)


def _spread(gaps: Sequence[float]) -> float:
    mean = sum(gaps) / max(1, len(gaps))
    return math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / max(1, len(gaps) - 1))
