"""Verdicts: one rule, pinned against scipy and a slow, obvious Holm."""

import itertools

import numpy as np
import pytest
from scipy import optimize, stats

from clbench.report.statistics import difference
from clbench.report.verdicts import (
    MOST,
    Question,
    _missed,
    corrected,
    holm,
    judge,
    seeds_needed,
    seen,
    smallest_difference,
)

NOISY, CLEAR = [0.1, -0.1, 0.12], [0.1, 0.11, 0.12]


def slow_holm(values):
    """The closed test that Holm's is a shortcut of: all intersections by Bonferroni's test."""
    numbers = range(len(values))
    every = [c for size in numbers for c in itertools.combinations(numbers, size + 1)]
    whole = {c: min(1.0, len(c) * min(values[i] for i in c)) for c in every}
    return [max(p for c, p in whole.items() if i in c) for i in numbers]


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_holm_is_the_closed_test(count):
    values = np.random.default_rng(count).beta(0.3, 1, count).tolist()
    assert holm(values) == pytest.approx(slow_holm(values))
    assert holm([0.5, *values, 0.5])[1:-1] >= values


def test_holm_of_nothing():
    assert holm([]) == []
    assert judge([]) == []


def test_one_claim_is_the_paired_t_test():
    g = np.random.default_rng(0)
    a, b = g.normal(0.8, 0.02, 6), g.normal(0.78, 0.03, 6)
    (verdict,) = judge([Question((a - b).tolist())])
    theirs = stats.ttest_rel(a, b)
    assert verdict.p == pytest.approx(theirs.pvalue)
    assert (verdict.gap.low, verdict.gap.high) == pytest.approx(theirs.confidence_interval(0.95))
    assert difference(dict(enumerate(a)), dict(enumerate(b))).p == pytest.approx(theirs.pvalue)
    welch = stats.ttest_ind(a, b[:4], equal_var=False).pvalue
    assert difference(
        dict(enumerate(a)), {9 + i: x for i, x in enumerate(b[:4])}
    ).p == pytest.approx(welch)


def test_many_claims_are_corrected():
    g = np.random.default_rng(1)
    gaps = [g.normal(mean, 1, 8).tolist() for mean in (0, 0.5, 1, 1.5, 2, -2)]
    alone = [stats.ttest_1samp(x, 0).pvalue for x in gaps]
    verdicts = judge([Question(x) for x in gaps])
    assert [v.p for v in verdicts] == pytest.approx(slow_holm(alone))
    for x, v, p in zip(gaps, verdicts, slow_holm(alone), strict=True):
        sure = "reproduced" if np.mean(x) > 0 else "not reproduced"
        assert v.outcome == (sure if p < 0.05 else "too noisy to say")
    assert len({v.outcome for v in verdicts}) == 3
    # One that is clear alone is not among many noisy ones.
    alone, among = judge([Question(NOISY[:1])]), judge([Question([0.1, 0.15, 0.2])] * 9)
    assert alone[0].outcome == "too noisy to say"
    assert judge([Question([0.1, 0.15, 0.2])])[0].outcome == "reproduced"
    assert among[0].outcome == "too noisy to say"


def test_what_is_no_test_is_not_corrected_for():
    unfair = Question(CLEAR, unfair=("learning rate 1, not 2",))
    one, *rest = judge([Question([0.1, 0.15, 0.2]), *[unfair] * 9])
    assert one.outcome == "reproduced"
    assert {v.outcome for v in rest} == {"not a test"}
    assert rest[0].p is None
    assert rest[0].gap.mean == pytest.approx(0.11)
    assert rest[0].unfair == ("learning rate 1, not 2",)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("level", [0.05, 0.001])
def test_smallest_difference_has_80_percent_power(n, level):
    found = smallest_difference(2.5, n, level)

    def power(away):
        noncentral, critical = away * n**0.5 / 2.5, stats.t.ppf(1 - level / 2, n - 1)
        return float(stats.nct.sf(critical, n - 1, noncentral))

    assert power(found) == pytest.approx(0.8, abs=1e-4)
    root = optimize.brentq(lambda x: power(x) - 0.8, 1e-3, 1e4)
    assert found == pytest.approx(root, rel=1e-4)


def test_smallest_difference_by_simulation():
    found = smallest_difference(1.0, 5)
    gaps = np.random.default_rng(3).normal(found, 1, (20_000, 5))
    power = (stats.ttest_1samp(gaps, 0, axis=1).pvalue < 0.05).mean()
    assert power == pytest.approx(0.8, abs=0.01)
    assert seen(difference(dict(enumerate(gaps[0])), dict.fromkeys(range(5), 0))) == pytest.approx(
        smallest_difference(gaps[0].std(ddof=1), 5)
    )


def test_seeds_needed_is_the_first_number_that_sees_it():
    for spread, away in ((2.6, 3.4), (1, 0.5), (1, 5), (0.1, 0.05)):
        count = seeds_needed(spread, away)
        assert smallest_difference(spread, count) <= away
        assert count == 3 or smallest_difference(spread, count - 1) > away
        assert count == pytest.approx((2.8 * spread / away) ** 2 + 2, abs=2)
    assert seeds_needed(0.001, 5) == 3  # no less decide anything
    assert seeds_needed(0, 5) == 6  # 2 ** -5 < 0.05
    assert seeds_needed(1, 0) is None
    assert seeds_needed(1, 1e-3) is None
    assert MOST > 1000


def test_noisy_claims_say_what_they_would_take():
    (verdict,) = judge([Question(NOISY)])
    spread = np.std(NOISY, ddof=1)
    assert verdict.would_take == seeds_needed(spread, np.mean(NOISY))
    assert verdict.could_see == pytest.approx(smallest_difference(spread, 3))
    five = judge([Question(NOISY)] * 5)
    assert five[0].would_take > verdict.would_take  # at the level that five leave
    assert five[0].could_see == pytest.approx(smallest_difference(spread, 3, 0.01))
    for few in ([0.3], [0.3, 0.31]):
        assert judge([Question(few)])[0].could_see is judge([Question(few)])[0].would_take is None
    assert judge([Question([])])[0].outcome == "too noisy to say"


def test_seeds_that_all_agree():
    for n, decided in ((2, False), (3, False), (5, False), (6, True), (10, True)):
        for sign, outcome in ((1, "reproduced"), (-1, "not reproduced")):
            (verdict,) = judge([Question([0.1 * sign] * n)])
            assert verdict.outcome == (outcome if decided else "too noisy to say")
            assert verdict.would_take == (None if decided or n < 3 else 6)
            if n > 2:
                assert verdict.p == stats.binomtest(0, n).pvalue
                assert verdict.p == verdict.gap.p
    none = judge([Question([0.0] * 6)])[0]
    assert (none.outcome, none.p) == ("too noisy to say", 1.0)


def test_two_pairs_decide_nothing():
    """However alike they are."""
    for gaps in ([0.1, 0.1], [0.1, 0.1 + 1e-6], [-0.1, -0.1]):
        assert judge([Question(gaps)])[0].p == 1
        assert judge([Question([0.1, 0.15, 0.2], others=(gaps,))])[0].p == 1


def one_sided(x, bound, side):
    return stats.ttest_1samp(x, bound, axis=-1, alternative=side).pvalue


def share_decided(question, n, level=0.05, times=4_000):
    """By simulation: how often ``n`` seeds with the means and spreads found decide, as found."""
    g, rivals = np.random.default_rng(n), (question.gaps, *question.others)
    holds, fails = np.ones(times, dtype=bool), np.zeros(times, dtype=bool)
    low, high = {
        "above": (0, question.margin),
        "no_less": (-question.margin, -question.margin),
        "equal": (-question.margin, question.margin),
    }[question.kind]
    for found in rivals:
        x = g.normal(np.mean(found), np.std(found, ddof=1), (times, n))
        holds &= one_sided(x, low, "greater") < level / 2
        if question.kind == "equal":
            holds &= one_sided(x, high, "less") < level / 2
            lost = np.minimum(one_sided(x, low, "less"), one_sided(x, high, "greater"))
        else:
            holds &= x.mean(1) >= high
            lost = one_sided(x, high, "less")
        fails |= lost < level / 2 / len(rivals)
    return max(holds.mean(), fails.mean())


def scaled(mean, spread):
    """Four differences of a mean and a standard deviation."""
    x = np.array([-1.5, -0.5, 0.5, 1.5])
    return (mean + spread * x / x.std(ddof=1)).tolist()


@pytest.mark.parametrize(
    "question",
    [
        Question(scaled(0.5, 1)),
        Question(scaled(-0.5, 1)),
        Question(scaled(0.5, 1), "above", 0.2),
        Question(scaled(0.1, 1), "above", 0.6),
        Question(scaled(0.3, 1), "no_less", 0.2),
        Question(scaled(-0.6, 1), "no_less", 0.2),
        Question(scaled(0.0, 1), "equal", 0.7),
        Question(scaled(0.2, 1), "equal", 0.7),
        Question(scaled(1.2, 1), "equal", 0.7),
        Question(scaled(0.5, 1), others=(scaled(0.6, 1.5),)),
        Question(scaled(0.5, 1), others=(scaled(0.5, 1), scaled(0.5, 1))),
        Question(scaled(0.5, 1), others=(scaled(-0.5, 1),)),
    ],
    ids=str,
)
def test_would_take_is_the_number_that_decides_by_simulation(question):
    (verdict,) = judge([question])
    assert verdict.outcome == "too noisy to say"
    assert share_decided(question, verdict.would_take) > 0.78
    assert share_decided(question, verdict.would_take - 3) < 0.8


def test_what_equality_and_several_rivals_could_see():
    gaps, n = scaled(0.0, 1.0), 4
    g = np.random.default_rng(8)
    (equal,) = judge([Question(gaps, "equal", 0.5)])
    x = g.normal(0, 1, (20_000, n))
    both = [
        one_sided(x, bound, side) < 0.025
        for bound, side in ((-equal.could_see, "greater"), (equal.could_see, "less"))
    ]
    assert 0.8 <= (both[0] & both[1]).mean() < 0.84
    assert equal.could_see > smallest_difference(1.0, n)
    (three,) = judge([Question(gaps, others=(gaps, gaps))])
    x = g.normal(three.could_see, 1, (3, 20_000, n))
    assert 0.8 <= (one_sided(x, 0, "greater") < 0.025).all(0).mean() < 0.84
    # The noisiest rival is the one that is hard to tell from.
    (noisy,) = judge([Question(gaps, others=(scaled(0, 9.0),))])
    assert noisy.could_see > smallest_difference(9.0, n)


@pytest.mark.parametrize(
    ("kind", "margin", "mean", "expected"),
    [
        ("above", 0.0, 0.004, "reproduced"),
        ("above", 0.02, 0.03, "reproduced"),
        ("above", 0.02, 0.001, "too small to count"),
        ("above", 0.02, -0.05, "not reproduced"),  # below 0, and not only below what counts
        ("above", 0.02, 0.015, "too small to count"),  # however surely there is something
        ("no_less", 0.02, -0.01, "reproduced"),
        ("no_less", 0.02, -0.05, "not reproduced"),
        ("no_less", 0.02, -0.02, "too noisy to say"),
        ("equal", 0.02, 0.005, "reproduced"),
        ("equal", 0.02, -0.05, "not reproduced"),
        ("equal", 0.02, 0.05, "not reproduced"),
        ("equal", 0.02, 0.02, "too noisy to say"),
    ],
)
def test_claims_with_a_margin(kind, margin, mean, expected):
    gaps = mean + np.array([-1, 0.5, 0.5, -0.5, 0.5]) * 1e-3
    (verdict,) = judge([Question(gaps.tolist(), kind, margin)])
    assert verdict.outcome == expected
    if kind == "equal":
        low = stats.ttest_1samp(gaps, -margin, alternative="greater").pvalue
        high = stats.ttest_1samp(gaps, margin, alternative="less").pvalue
        fails = min(1 - low, 1 - high)
        assert verdict.p == pytest.approx(min(1, 2 * min(max(low, high), fails)), abs=1e-12)


def test_a_claim_against_several_rivals_is_one_against_each():
    g = np.random.default_rng(4)
    far, near, beaten = (g.normal(mean, 0.1, 6).tolist() for mean in (0.8, 0.3, -0.8))
    holds = [stats.ttest_1samp(x, 0, alternative="greater").pvalue for x in (far, near)]
    (both,) = judge([Question(near, others=(far,))])
    assert both.outcome == "reproduced"
    assert both.p == pytest.approx(2 * max(holds))
    (one,) = judge([Question(beaten, others=(near, far))])
    assert one.outcome == "not reproduced"
    fails = stats.ttest_1samp(beaten, 0, alternative="less").pvalue
    assert one.p == pytest.approx(2 * 3 * fails)
    assert judge([Question(NOISY, others=(far,))])[0].outcome == "too noisy to say"


def test_corrected_differences_skip_what_has_no_p():
    gaps = [difference(dict(enumerate(x)), dict.fromkeys(range(3), 0.0)) for x in (NOISY, CLEAR)]
    one = difference({0: 1.0}, {0: 0.5})
    found = corrected([None, gaps[0], one, gaps[1]])
    assert found[0] is found[2] is None
    alone = [stats.ttest_1samp(x, 0).pvalue for x in (NOISY, CLEAR)]
    assert [found[1], found[3]] == pytest.approx(slow_holm(alone))


def test_a_page_of_nothing_is_rarely_wrong():
    g = np.random.default_rng(5)
    wrong = 0
    for _ in range(150):
        verdicts = judge([Question(g.normal(0, 1, 4).tolist()) for _ in range(20)])
        wrong += any(v.outcome != "too noisy to say" for v in verdicts)
    assert wrong / 150 < 0.1  # 5 % but for chance; 64 % if it were not corrected


@pytest.mark.parametrize(("spread", "away", "level"), [(0.039, 0.029, 0.005), (0.1, 0.07, 0.002)])
def test_seeds_needed_are_those_of_a_count_from_below(spread, away, level):
    """The non-central t is not a number for some numbers of seeds that are far above it."""
    one_by_one = (n for n in range(3, 1000) if _missed(spread, away, n, level) <= 0.2)
    assert seeds_needed(spread, away, level) == next(one_by_one)


def test_each_look_costs_its_share():
    first, second = (judge([Question(NOISY), Question([0.1, 0.11, 0.12])], n) for n in (1, 2))
    for one, other in zip(first, second, strict=True):
        assert other.p == pytest.approx(min(1.0, 2 * one.p))
        assert other.could_see > one.could_see
    assert second[0].would_take > first[0].would_take


def test_looking_twice_is_seldom_wrong():
    """Seeds are added where the first look does not decide; neither finds what is not there."""
    g, wrong = np.random.default_rng(0), 0
    for _ in range(2000):
        gaps = g.normal(0, 1, 20).tolist()
        wrong += any(
            judge([Question(gaps[:n])], 2)[0].outcome != "too noisy to say" for n in (8, 20)
        )
    assert wrong <= 0.05 * 2000
