"""A few methods far below do not press all others of a frontier into a corner."""

from types import SimpleNamespace

import pytest

from clbench.report.spots import Spot, drawn_in, floor


def spot(x, y, front=False, baseline=False):
    group = SimpleNamespace(base="sequential" if baseline else None)
    return Spot(group, x, y, front)


def axis(*values, front=(), baseline=()):
    """A floor for the methods at these places."""
    made = [spot(v, 0.5, i in front, i in baseline) for i, v in enumerate(values)]
    return floor(made, values)


def test_one_of_eight_far_below_is_cut_off():
    assert axis(0.1, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92) == pytest.approx(0.80 - 0.012)


def test_two_of_eight_are_cut_off_and_three_are_not():
    assert axis(0.1, 0.2, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92) == pytest.approx(0.82 - 0.01)
    assert axis(0.1, 0.2, 0.3, 0.84, 0.86, 0.88, 0.90, 0.92) is None


@pytest.mark.parametrize("kept", [{"front": (0,)}, {"baseline": (0,)}])
def test_the_front_and_baselines_are_never_cut_off(kept):
    assert axis(0.1, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, **kept) is None


def test_an_even_spread_is_drawn_whole():
    assert axis(*(i / 10 for i in range(10))) is None
    assert axis(0.5, 0.5, 0.5, 0.5) is None
    assert axis() is None


def test_what_is_below_a_floor_stands_at_it_with_its_place_kept():
    inside, outside = drawn_in([spot(0.9, 0.9), spot(0.2, 0.95)], (0.8, None))
    assert (inside.x, inside.y, inside.beyond) == (0.9, 0.9, None)
    assert (outside.x, outside.y, outside.beyond) == (0.8, 0.95, (0.2, 0.95))
