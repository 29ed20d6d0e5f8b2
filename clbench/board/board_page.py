"""The page of one board, and that of a board in several class orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from clbench.board.boards import Board, BoardRow
from clbench.board.pages import render
from clbench.board.table import board_table, differences_table, disputed_table
from clbench.record.record import TITLES, Scenario
from clbench.report.boards import pooled_table
from clbench.report.cells import Table
from clbench.report.comparison import Compared
from clbench.report.fonts import literal
from clbench.report.frontier import frontier
from clbench.report.metrics import SCENARIO_ABOUT, show
from clbench.report.orders import orders_table
from clbench.report.svg import inline, styled, to_svg

#: Boards near another that its page leads to, at most.
NEAR = 24


@final
@dataclass(frozen=True)
class First:
    """What the index says of a board in one scenario.

    Attributes:
        title: of the scenario.
        label: of the row with the best mean of those that are ranked.
        score: its OP, for people.
        ties: other rows with rank 1.
    """

    title: str
    label: str
    score: str
    ties: int


def write_board(site: Path, board: Board, near: Sequence[Board], orders: str) -> tuple[First, ...]:
    """Write the page of a board; returns what the index says of it.

    Args:
        site: folder of the whole site.
        board: what to show.
        near: boards of the same stream and backbone.
        orders: name of the page over class orders; empty if there is one order.
    """
    section = board.section
    scenarios = board.scenarios
    parts = [_part(board, scenario, title) for scenario, title in scenarios.items()]
    every = [*board.rows, *board.references, *board.disputed]
    render(
        "board.html",
        site / "boards" / f"{board.key.name}.html",
        1,
        board=board,
        siblings=[(one.key.name, one.key.apart(board.key)) for one in near[:NEAR]],
        more=max(0, len(near) - NEAR),
        orders=f"{orders}.html" if orders else "",
        warnings=section.warnings,
        parts=parts,
        disputed=disputed_table(board),
        rows=every,
        scenarios=scenarios or TITLES,
    )
    return tuple(_firsts(board, scenarios))


def write_orders(site: Path, name: str, boards: Sequence[Board]) -> None:
    """Write the page of boards that differ in the order of the classes alone."""
    sections = [board.section for board in boards if board.section.groups]
    tables: list[Table] = []
    for scenario in boards[0].scenarios if len(sections) > 1 else ():
        # As reports pool streams: each order is one.
        ranked = pooled_table(Compared(tuple(sections)), scenario)
        tables += filter(None, (orders_table(sections, scenario), ranked))
    render("orders.html", site / "boards" / f"{name}.html", 1, boards=boards, tables=tables)


def _part(board: Board, scenario: Scenario, title: str) -> dict[str, Any]:
    """What the page shows of one scenario."""
    return {
        "title": title,
        "about": SCENARIO_ABOUT.get(title, "chooses among the classes of the one task"),
        "table": board_table(board, scenario),
        "differences": differences_table(board, scenario),
        "figures": _figures(board, scenario, title),
    }


def _figures(board: Board, scenario: Scenario, title: str) -> list[tuple[str, Any]]:
    """The frontier, as the report's template takes figures; none without retention."""
    section = board.section
    with styled(), literal([group.label for group in section.groups]):
        drawn = frontier(section, scenario)
        if drawn is None:
            return []
        label = f"New tasks against retention, {title}"
        svg = inline(to_svg(drawn[0]), f"p-{scenario[0]}", label, drawn[1])
    return [("New tasks against retention", [(label, svg, drawn[1])])]


def _firsts(board: Board, scenarios: Mapping[Scenario, str]) -> Iterator[First]:
    for scenario, title in scenarios.items():
        leader: BoardRow | None = board.leader(scenario)
        op = leader and leader.group.estimate("overall_performance", scenario)
        if leader and op:
            ties = sum(rank == 1 for rank in board.ranks(scenario).values()) - 1
            yield First(title, leader.group.label, show(op.mean, "accuracy"), ties)
