"""Ranks say what seeds can tell apart, by the report's own rule."""

import random
from types import SimpleNamespace

import pytest

from clbench.board import ranks as module
from clbench.board.ranks import ranks
from clbench.report.statistics import difference


def group(number, scores, rival=True):
    """What ranks ask of a group."""
    values = scores if isinstance(scores, dict) else dict(enumerate(scores))
    return SimpleNamespace(number=number, rival=rival, by_seed=lambda metric, scenario: values)


def ranked(*groups):
    return ranks(groups, "task_incremental")


def test_what_is_within_noise_of_the_best_shares_its_rank():
    best, near = [0.90, 0.91, 0.92], [0.89, 0.92, 0.90]
    assert ranked(group(0, best), group(1, near), group(2, [0.5, 0.51, 0.5])) == {0: 1, 1: 1, 2: 3}


def test_a_row_is_behind_those_alone_that_are_better_beyond_noise():
    # Row 2 is as noisy as could be: within noise of all. Row 1 is not put behind it.
    rows = group(0, [0.9, 0.9, 0.91]), group(1, [0.8, 0.8, 0.81]), group(2, [0.99, 0.4, 0.9])
    assert ranked(*rows) == {0: 1, 1: 2, 2: 1}


def test_one_seed_has_no_rank_and_the_bound_does_not_compete():
    rows = group(0, [0.99]), group(1, [0.5, 0.6]), group(2, [0.9, 0.9], rival=False)
    assert ranked(*rows) == {1: 1}
    assert ranked(group(0, [0.99])) == {}


def test_other_seeds_are_compared_unpaired():
    # Paired, the same difference each time would be told apart; the means of other seeds are not.
    ours, theirs = {0: 0.9, 1: 0.7, 2: 0.5}, {0: 0.89, 1: 0.69, 2: 0.49}
    assert ranked(group(0, ours), group(1, theirs)) == {0: 1, 1: 2}
    others = {seed + 10: value for seed, value in theirs.items()}
    assert ranked(group(0, ours), group(1, others)) == {0: 1, 1: 1}
    one_common = {0: 0.89, 11: 0.69, 12: 0.49}
    assert ranked(group(0, ours), group(1, one_common)) == {0: 1, 1: 1}


@pytest.mark.parametrize("spread", [0.0, 1e-14, 0.001, 0.02, 0.3])
def test_hundreds_at_once_are_judged_as_the_report_judges_two(spread):
    noise = random.Random(str(spread))
    values = {}
    for number in range(24):
        seeds = noise.sample(range(12), noise.randint(2, 6))
        middle = noise.choice([0.5, 0.51, 0.6])
        values[number] = {seed: middle + noise.gauss(0, spread) for seed in seeds}
    alike = module._by_seeds(values)
    told = 0
    for ours in values.values():
        level = module._level(ours, alike)
        for number, theirs in values.items():
            if 0 < len(ours.keys() & theirs.keys()) < 2:
                theirs = {seed + 100: value for seed, value in theirs.items()}
            told += number in level
            assert (number in level) == difference(ours, theirs).within_noise
    assert 0 < told <= 24**2
