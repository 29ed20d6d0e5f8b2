"""What papers report of methods, and what was measured here: ``reported.yaml``, and its records."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field

from clbench.record.baselines import PLAIN
from clbench.record.reading import fit, yaml_of
from clbench.record.record import TITLES
from clbench.record.values import Scenario

PLACE = Path(__file__).with_name("reported.yaml")
#: Where the pages of results and their records lie, in a checkout.
RESULTS = Path(__file__).parents[2] / "docs" / "results"
#: Scores by their columns in the tables, and what they are called.
SCORES = {
    "overall_performance": "last",
    "average_incremental_accuracy": "Ā",
    "retention": "retention",
}


class Reported(BaseModel):
    """One number of a paper, in %; see the head of the file."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    method: str
    stream: str
    weights: str
    score: Literal["overall_performance", "average_incremental_accuracy", "retention"]
    scenario: Scenario
    reported: float = Field(gt=0, le=100)
    source: str = Field(min_length=1)
    others: dict[str, float] = Field({}, description="what other programs reproduced")
    command: str | None = None
    record: str | None = None
    row: str | None = None

    @property
    def what(self) -> str:
        """The score, for people."""
        if self.score == "retention":
            return "retention"
        return f"{SCORES[self.score]}, {TITLES[self.scenario]}"


class Ours(NamedTuple):
    """A row of a page's table, in fractions.

    Attributes:
        value: the mean over seeds.
        low: of its interval; None where there is none.
        high: of it.
        interval: what kind it is.
        seeds: how many.
        page: the folder in ``docs/results``.
        row: the method, as the table has it.
        stream: as the table has it.
        runs: names of the runs that it is of, whose records are kept.
    """

    value: float
    low: float | None
    high: float | None
    interval: str
    seeds: int
    page: str
    row: str
    stream: str
    runs: tuple[str, ...]


class _File(BaseModel):
    rows: list[Reported]


@cache
def reported() -> tuple[Reported, ...]:
    """Every number of the file, in its order."""
    return tuple(fit(_File, {"rows": yaml_of(PLACE)}, PLACE.name).rows)


def in_table(score: str, scenario: Scenario, page: str, results: Path = RESULTS) -> Iterator[Ours]:
    """The rows of a page's table that have a score; none where there is no such page here."""
    for row in _table(results / page / "table.csv"):
        if row["scenario"] != scenario or not row.get(score):
            continue
        ends = (row.get(f"{score}_low"), row.get(f"{score}_high"))
        low, high = (float(end) if end else None for end in ends)
        kind, seeds = row.get(f"{score}_interval") or "", int(row["seeds"])
        names = tuple((row.get("runs") or "").split())
        place = (page, row["method"], row["stream"], names)
        yield Ours(float(row[score]), low, high, kind, seeds, *place)


@cache  # every method asks every table for each score
def _table(path: Path) -> tuple[dict[str, str], ...]:
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def ours(number: Reported, results: Path = RESULTS) -> Ours | None:
    """What was measured here in a number's place: of records that are kept, or None."""
    if number.record is None or number.row is None:
        return None
    found = in_table(number.score, number.scenario, number.record, results)
    kept = results / number.record / "records"
    for one in found:
        if one.row == number.row and one.runs and all((kept / run).is_dir() for run in one.runs):
            return one
    return None


class MeasuredAlone(NamedTuple):
    """A row of a page's table whose runs had one method and no other.

    Attributes:
        first: one of its numbers, which names page, stream, row and seeds.
        by: the numbers: OP by its scenario, and ``retention``.
    """

    first: Ours
    by: dict[str, Ours]


def measured_alone(method: str, results: Path = RESULTS) -> Iterator[MeasuredAlone]:
    """The rows of all pages whose runs had this method and no other."""
    for place in sorted(results.glob("*/table.csv")):
        page = place.parent.name
        found: dict[tuple[str, str], dict[str, Ours]] = {}
        for scenario in get_args(Scenario):
            for score in ("overall_performance", "retention"):
                for row in in_table(score, scenario, page, results):
                    what = score if score == "retention" else scenario
                    found.setdefault((row.stream, row.row), {})[what] = row
        for by in found.values():
            first = next(iter(by.values()))
            if _methods(results / page, first.runs) == (method,):
                yield MeasuredAlone(first, by)


@cache
def _methods(page: Path, runs: tuple[str, ...]) -> tuple[str, ...]:
    """The methods of a row's runs, by the first one's record."""
    path = page / "records" / (runs[0] if runs else "") / "record.jsonl"
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8") as file:
        names = list(json.loads(file.readline())["methods"])
    return tuple(n for n in names if n != PLAIN) or (PLAIN,)
