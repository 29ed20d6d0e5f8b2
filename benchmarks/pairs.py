"""Paired timings and their table, for the benchmarks in this folder; measures nothing itself.

What is compared takes turns (A B B A A B …), so that whatever else the machine does meets both
alike, and the median of the ratios within the pairs counts.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Pair:
    """Two things that were timed in turns.

    Attributes:
        what: for people.
        ours: seconds of clbench, one entry a round.
        theirs: seconds of the other, one entry a round.
        amount: how much was done in one round: steps, images …; figures are given for one.
        unit: the name of one.
        at_most: goal for ours / theirs; infinite: the ratio alone, without one.
        at_least: goal for theirs / ours. A pair without a goal is shown only.
    """

    what: str
    ours: Sequence[float]
    theirs: Sequence[float]
    amount: float = 1.0
    unit: str = "run"
    at_most: float | None = None
    at_least: float | None = None

    @property
    def slower(self) -> bool:
        """Whether the ratio says how much slower clbench is, and not how much faster."""
        return self.at_most is not None

    @property
    def ratios(self) -> list[float]:
        """The ratio of each pair, sorted."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return sorted(a / b if self.slower else b / a for a, b in pairs)

    @property
    def holds(self) -> bool:
        """Whether the goal is reached; True without one."""
        ratio = statistics.median(self.ratios)
        if self.at_most is not None:
            return ratio <= self.at_most
        return self.at_least is None or ratio >= self.at_least

    def cells(self) -> list[str]:
        """What the table says."""
        ratios = self.ratios
        goal = "–"
        if self.at_most is not None and math.isfinite(self.at_most):
            goal = f"≤ {self.at_most:.3g}×"
        elif self.at_least is not None:
            goal = f"≥ {self.at_least:g}×"
        verdict = "–" if goal == "–" else "holds" if self.holds else "MISSED"
        return [
            self.what,
            per(statistics.median(self.ours) / self.amount, self.unit),
            per(statistics.median(self.theirs) / self.amount, self.unit),
            f"{statistics.median(ratios):.2f}× ({ratios[0]:.2f}–{ratios[-1]:.2f})",
            goal,
            verdict,
        ]


def per(seconds: float, unit: str) -> str:
    """A duration in a unit that suits its size.

    >>> per(0.0123, "step"), per(2.5e-6, "image")
    ('12.30 ms/step', '2.50 µs/image')
    """
    for factor, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= factor:
            return f"{seconds / factor:.2f} {name}/{unit}"
    return f"{seconds / 1e-6:.2f} µs/{unit}"


def take_turns(
    ours: Callable[[], float | None], theirs: Callable[[], float | None], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of both in every round; each runs once more at first, to warm up.

    A function may return the seconds that count, where they are not those of the whole call.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    sides = list(zip((ours, theirs), seconds, strict=True))
    for number in range(-1, rounds):
        for function, list_ in sides if number % 2 else sides[::-1]:
            began = time.perf_counter()
            own = function()
            taken = time.perf_counter() - began
            if number >= 0:
                list_.append(taken if own is None else own)
    return seconds


def show(pairs: Sequence[Pair], other: str) -> int:
    """Print the table; returns the exit code, 1 if a goal is missed.

    Args:
        pairs: the rows.
        other: what clbench is compared with.
    """
    rows = [
        ["", "clbench", other, "ratio (min–max)", "goal", ""],
        *(pair.cells() for pair in pairs),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join([first, *rest]).rstrip())
    print(
        f"medians of {min(len(pair.ours) for pair in pairs)} rounds or more, ratios within pairs; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    return 0 if all(pair.holds for pair in pairs) else 1


def lacks_gpu(accelerator: str) -> bool:
    """Whether a GPU is asked for that is not there, which a line then says."""
    lacks = accelerator == "gpu" and not torch.cuda.is_available()
    if lacks:
        print("There is no GPU: nothing was measured (--accelerator cpu tries the program).")
    return lacks


def ready() -> list[str]:
    """The methods that need be given nothing, plain fine-tuning first."""
    from clbench.methods import METHODS

    return [
        name
        for name, method in METHODS.items()
        if not any(info.is_required() for info in method.model_fields.values())
    ]


def arguments(description: str | None, rounds: int) -> argparse.Namespace:
    """The options that all have: ``--rounds`` and ``--threads``."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="pairs to measure")
    parser.add_argument("--threads", type=int, help="threads of torch; default: its own choice")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return options
