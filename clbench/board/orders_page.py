"""The page of a board in several class orders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from clbench.board.boards import Board, BoardRow
from clbench.board.pages import render
from clbench.board.table import FIRST
from clbench.record.record import Scenario
from clbench.report.cells import Entry, Head, Table, rank_cell
from clbench.report.confounds import complete
from clbench.report.orders import ORDERS, orders_table
from clbench.report.section import Section
from clbench.report.statistics import mean_ranks

RANKED = "rank by OP, 1 the best, mean over class orders; with an interval from five seeds of each"
#: Settings that say an order: of a stream, and lists of classes that make one.
_ORDER = {*ORDERS, "stream.classes"}


@final
@dataclass(frozen=True)
class InAllOrders:
    """A method that one submission ran in every class order, with nothing else changed.

    Attributes:
        label: its own.
        rows: on the board of each order, in the boards' order.
    """

    label: str
    rows: tuple[BoardRow, ...]


def orders_name(boards: Sequence[Board]) -> str:
    """Name of the page: the same for the same boards."""
    told = "".join(sorted(board.key.identity for board in boards))
    return f"orders-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def write_orders(site: Path, boards: Sequence[Board]) -> None:
    """Write the page of boards that differ in the order of the classes alone."""
    found = list(in_all_orders(boards))
    tables: list[Table] = []
    for scenario, title in boards[0].scenarios.items() if found else ():
        made = orders_table(_sections(boards, found), scenario)
        tables += filter(None, (made, _ranked(found, scenario, title)))
    render(
        "orders.html",
        site / "boards" / f"{orders_name(boards)}.html",
        1,
        boards=boards,
        tables=tables,
        found=found,
    )


def in_all_orders(boards: Sequence[Board]) -> Iterator[InAllOrders]:
    """Rows that one submission has on every board by the same settings."""
    each = [{_method(row): row for row in board.rows} for board in boards]
    for method, row in each[0].items():
        there = [found[method] for found in each if method in found]
        if len(there) == len(boards):
            yield InAllOrders(row.group.label, tuple(there))


def _method(row: BoardRow) -> tuple[object, ...]:
    settings = complete(row.group.runs[0])
    rest = sorted((key, str(value)) for key, value in settings.items() if key not in _ORDER)
    return row.submission, *rest


def _sections(boards: Sequence[Board], found: Sequence[InAllOrders]) -> list[Section]:
    """A section for each order, in which a method has one label and one number."""
    return [
        Section(
            board.key.title,
            tuple(
                replace(one.rows[place].group, label=one.label, number=number)
                for number, one in enumerate(found)
            ),
            board.key.tasks,
            (),
            compares=False,
        )
        for place, board in enumerate(boards)
    ]


def _ranked(found: Sequence[InAllOrders], scenario: Scenario, title: str) -> Table | None:
    """Mean ranks over class orders; None of fewer than two rivals."""
    values = {
        number: [list(row.group.by_seed(FIRST, scenario).values()) for row in one.rows]
        for number, one in enumerate(found)
        if all(row.group.rival for row in one.rows)
    }
    values = {number: scores for number, scores in values.items() if all(scores)}
    if len(values) < 2:
        return None
    ranked = zip(values, mean_ranks(list(values.values())), strict=True)
    body = [
        [Entry(found[number].label, found[number].label, group=number), rank_cell(rank)]
        for number, rank in sorted(ranked, key=lambda pair: pair[1].mean)
    ]
    heads = [Head("Method"), Head("Mean rank", RANKED, -1, ordered=True)]
    return Table(f"Mean rank over {len(found[0].rows)} class orders, {title}", heads, body)
