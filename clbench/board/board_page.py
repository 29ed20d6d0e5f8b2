"""The page of one board, and that of a board in several class orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from clbench.board.boards import Board, BoardRow
from clbench.board.pages import render
from clbench.board.table import FIRST, board_table, differences_table, disputed_table
from clbench.record.record import TITLES, Scenario
from clbench.report.cells import Entry, Head, Table, rank_cell
from clbench.report.fonts import literal
from clbench.report.frontier import frontier
from clbench.report.metrics import SCENARIO_ABOUT, show
from clbench.report.orders import orders_table
from clbench.report.section import Section
from clbench.report.spots import pareto
from clbench.report.statistics import mean_ranks
from clbench.report.svg import inline, styled, to_svg

RANKED = "rank by OP, 1 the best, mean over class orders; with an interval from five seeds of each"
#: Rows that a figure shows at most.
DRAWN = 80
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
    for scenario, title in boards[0].scenarios.items() if len(sections) > 1 else ():
        tables += filter(None, (orders_table(sections, scenario), _ranked(boards, scenario, title)))
    render("orders.html", site / "boards" / f"{name}.html", 1, boards=boards, tables=tables)


def _ranked(boards: Sequence[Board], scenario: Scenario, title: str) -> Table | None:
    """Mean ranks over class orders of the rows that all of them have; None below two of these."""
    each = [{row.group.label: row.group for row in board.rows} for board in boards]
    labels = [label for label in each[0] if all(label in found for found in each)]
    values = {
        label: [list(found[label].by_seed(FIRST, scenario).values()) for found in each]
        for label in labels
        if all(found[label].rival for found in each)
    }
    values = {label: scores for label, scores in values.items() if all(scores)}
    if len(values) < 2:
        return None
    ranked = zip(values, mean_ranks(list(values.values())), strict=True)
    body = [
        [Entry(label, label), rank_cell(rank)]
        for label, rank in sorted(ranked, key=lambda pair: pair[1].mean)
    ]
    heads = [Head("Method"), Head("Mean rank", RANKED, -1, ordered=True)]
    return Table(f"Mean rank over {len(boards)} class orders, {title}", heads, body)


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
    section, left = _shown(board.section, scenario)
    with styled(), literal([group.label for group in section.groups]):
        drawn = frontier(section, scenario)
        if drawn is None:
            return []
        label, text = f"New tasks against retention, {title}", drawn[1]
        if left:
            text += f" Left out are {left} rows, none of which is on the front."
        svg = inline(to_svg(drawn[0]), f"p-{scenario[0]}", label, text)
    return [("New tasks against retention", [(label, svg, text)])]


def _shown(section: Section, scenario: Scenario) -> tuple[Section, int]:
    """The section with no more rows than a figure can show, the front among them; and how many
    are left out."""
    standing = [
        (row.group, x.mean, y.mean)
        for row in section.leaderboard(scenario)
        if (x := row.scores[FIRST]) and (y := row.scores["retention"])
    ]
    if len(standing) <= DRAWN:
        return section, 0
    rivals = [number for number, (group, _, _) in enumerate(standing) if group.rival]
    front = {rivals[n] for n in pareto([standing[number][1:] for number in rivals])}
    others = (number for number in range(len(standing)) if number not in front)
    kept = [*sorted(front), *others][: max(DRAWN, len(front))]
    groups = tuple(standing[number][0] for number in kept)
    return replace(section, groups=groups), len(standing) - len(groups)


def _firsts(board: Board, scenarios: Mapping[Scenario, str]) -> Iterator[First]:
    for scenario, title in scenarios.items():
        leader: BoardRow | None = board.leader(scenario)
        op = leader and leader.group.estimate("overall_performance", scenario)
        if leader and op:
            ties = sum(rank == 1 for rank in board.ranks(scenario).values()) - 1
            yield First(title, leader.group.label, show(op.mean, "accuracy"), ties)
