"""Tables as data, and how the numbers in their cells are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clbench.report.confounds import MARK
from clbench.report.metrics import METRICS, Unit, show
from clbench.report.section import Standing
from clbench.report.statistics import Difference, Mean

NOTHING = "–"


@dataclass(frozen=True)
class Head:
    """The head of a column.

    Attributes:
        text: its name.
        about: what it holds, in a sentence.
        better: 1 if more is better, −1 if less is; 0 for names.
        ordered: whether the rows are in its order.
    """

    text: str
    about: str = ""
    better: int = 0
    ordered: bool = False


@dataclass(frozen=True)
class Entry:
    """A cell.

    Attributes:
        text: what it shows.
        value: what it is sorted by; None stays at the end.
        small: the interval, or why there is none, where there is room for it.
        mark: ``best``, ``tie`` or nothing.
        group: number of the runs behind it.
        words: whether it is a sentence, which may take several lines.
    """

    text: str
    value: float | str | None = None
    small: str = ""
    mark: str = ""
    group: int | None = None
    words: bool = False

    @property
    def plain(self) -> str:
        """As plain text; the best stands between two asterisks."""
        return f"**{self.text}**" if self.mark == "best" else self.text


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it holds.
        heads: one for each column; the first column names the rows.
        body: rows of cells.
        note: what else a reader must know; may be empty.
    """

    title: str
    heads: Sequence[Head]
    body: Sequence[Sequence[Entry]]
    note: str = ""

    @property
    def plain(self) -> tuple[str, list[str], list[list[str]]]:
        """Title, heads and cells as plain text."""
        cells = [[cell.plain for cell in line] for line in self.body]
        return self.title, [head.text for head in self.heads], cells


def score_cell(found: Mean | None, unit: Unit, mark: str = "", group: int | None = None) -> Entry:
    """A mean with its spread and interval."""
    if found is None:
        return Entry(NOTHING)
    text, small = show(found.mean, unit), ""
    if unit in ("accuracy", "change", "seconds") and found.std is not None:
        text += f" ± {show(found.std, 'accuracy' if unit == 'change' else unit)}"
    if unit in ("accuracy", "change"):
        small = _interval(found, unit)
    return Entry(text + " ≈" * (mark == "tie"), found.mean, small, mark, group)


def single(found: Mean | None, unit: Unit) -> Entry:
    """A number that is one measurement for all seeds, so that there is nothing to spread."""
    return Entry(show(found.mean, unit), found.mean) if found else Entry(NOTHING)


def versus(row: Standing, baseline: str, metric: str, group: int | None = None) -> Entry:
    """A difference from a baseline."""
    noise = row.within_noise(baseline, metric)
    gap, unit = row.versus[baseline].get(metric), METRICS[metric].unit
    return gap_cell(gap, unit, group, noise, bool(row.besides[baseline]))


def gap_cell(
    found: Difference | None, unit: Unit, group: int | None, noise: bool, confounded: bool
) -> Entry:
    """A difference, with what makes it none."""
    if found is None:
        return Entry(NOTHING)
    text = show(found.mean, unit, True) + " ≈" * noise + f" {MARK}" * confounded
    return Entry(text, found.mean, _interval(found, unit, True), group=group)


def rank_cell(found: Mean | None) -> Entry:
    """A mean rank with its interval."""
    if found is None:
        return Entry(NOTHING)
    if found.low is None or found.high is None:
        return Entry(f"{found.mean:.2f}", found.mean, seeds(found.n))
    return Entry(f"{found.mean:.2f}", found.mean, f"[{found.low:.1f}, {found.high:.1f}]")


def _interval(found: Mean | Difference, unit: Unit, signed: bool = False) -> str:
    """The interval and how it was made, or why there is none."""
    if found.low is None or found.high is None:
        values = found.values if isinstance(found, Mean) else ()
        if len(values) == 2:
            return " and ".join(show(value, unit, signed) for value in sorted(values))
        return seeds(found.n)
    ends = f"[{show(found.low, unit, signed)}, {show(found.high, unit, signed)}]"
    return f"{ends} t" if found.interval == "t" else ends


def seeds(count: int) -> str:
    """The reason why there is no interval.

    >>> seeds(1), seeds(2)
    ('1 seed', '2 seeds')
    """
    return f"{count} seed{'s' * (count != 1)}"
