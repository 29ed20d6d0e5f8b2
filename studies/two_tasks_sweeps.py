"""The sweeps of `sfa_two_tasks`, and all networks of a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from two_tasks import STEPS, TwoTasks, Way


@dataclass(frozen=True)
class Sweep:
    """One curve: a method, swept over one setting.

    Attributes:
        name: for tables and figures.
        symbol: of the setting.
        values: of the setting; as many for every sweep.
        way: a value → how task B is learned.
        colour, marker: of the curve (Okabe and Ito's colours).
    """

    name: str
    symbol: str
    values: tuple[float, ...]
    way: Callable[[float], Way]
    colour: str
    marker: str


SWEEPS = (
    Sweep(
        "SFA over β",
        "β",
        (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5),
        lambda beta: Way(20, beta),
        "#d55e00",
        "o",
    ),
    Sweep(
        "SFA over the interval, β 0.1",
        "batches",
        (4, 6, 10, 14, 20, 40, 100, 400),
        lambda batches: Way(int(batches), 0.1),
        "#d55e00",
        "s",
    ),
    Sweep(
        "SFA over the interval, β 0.5",
        "batches",
        (10, 20, 25, 40, 50, 100, 200, 400),
        lambda batches: Way(int(batches), 0.5),
        "#e69f00",
        "v",
    ),
    Sweep(
        "ℓ2",
        "λ",
        (0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.5, 1.0),
        lambda strength: Way(strength=strength),
        "#009e73",
        "^",
    ),
    Sweep(
        "EWC",
        "λ",
        (10.0, 30.0, 100.0, 300.0, 1e3, 1e4, 1e5, 1e7),
        lambda strength: Way(strength=strength, fisher="true"),
        "#0072b2",
        "D",
    ),
    Sweep(
        "EWC, averaged over inputs",
        "λ",
        (3.0, 10.0, 30.0, 100.0, 200.0, 400.0, 1e3, 3e3),
        lambda strength: Way(strength=strength, fisher="averaged"),
        "#999999",
        "p",
    ),
    Sweep(
        "EWC, the blog's factors",
        "λ",
        (0.001, 0.003, 0.01, 0.02, 0.04, 0.07, 0.1, 0.3),
        lambda strength: Way(strength=strength, fisher="blog"),
        "#56b4e9",
        "d",
    ),
)
BETA, FAST, SLOW, L2, EWC, AVERAGED, BLOG = (sweep.name for sweep in SWEEPS)
#: Single networks; the first two are the ends of every front.
ENDS = ("after task A", "sequential")
SINGLE = (*ENDS, "multitask")
NUMBERS = ("validation_A", "validation_B", "test_A", "test_B", "distance")
#: A run: sweep, value (None: it has none), seed, and NUMBERS.
Run = dict[str, Any]


def run_seed(tasks: Any, seed: int, steps: dict[str, int] | None = None) -> list[Run]:
    """All networks of one seed, measured."""
    two = TwoTasks(tasks, seed, steps or STEPS)
    found = [(ENDS[0], None, two.after_a()), (ENDS[1], None, two.learn_b(Way()))]
    found += [(s.name, value, two.learn_b(s.way(value))) for s in SWEEPS for value in s.values]
    found.append((SINGLE[2], None, two.multitask()))
    return [
        {"sweep": sweep, "value": value and float(value), "seed": seed}
        | {key: round(numbers[key], 6) for key in NUMBERS}  # as they are kept
        for sweep, value, numbers in found
    ]


def of(runs: Iterable[Run], sweep: str, seed: int | None = None) -> list[Run]:
    """The runs of a sweep, or of one seed of it, in the order of the setting."""
    return [run for run in runs if run["sweep"] == sweep and seed in (None, run["seed"])]


def seeds_of(runs: Iterable[Run]) -> list[int]:
    """The seeds that were run."""
    return sorted({run["seed"] for run in runs})
