"""The page of one board."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from clbench.board.boards import Board, BoardRow
from clbench.board.pages import render
from clbench.board.table import FIRST, NOTE, board_table, differences_table, disputed_table
from clbench.record.record import TITLES, Scenario
from clbench.report.fonts import literal
from clbench.report.frontier import frontier
from clbench.report.metrics import SCENARIO_ABOUT, show
from clbench.report.section import Section
from clbench.report.spots import pareto
from clbench.report.svg import inline, styled, to_svg

#: Rows that a figure shows at most.
DRAWN = 80
#: Boards near another that its page leads to, at most.
NEAR = 24


@final
@dataclass(frozen=True)
class Headline:
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


def write_board(
    site: Path, board: Board, near: Sequence[Board], orders: str
) -> tuple[Headline, ...]:
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
        note=NOTE,
        scenarios=scenarios or TITLES,
    )
    return tuple(_firsts(board, scenarios))


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


def _firsts(board: Board, scenarios: Mapping[Scenario, str]) -> Iterator[Headline]:
    for scenario, title in scenarios.items():
        leader: BoardRow | None = board.leader(scenario)
        op = leader and leader.group.estimate("overall_performance", scenario)
        if leader and op:
            ties = sum(rank == 1 for rank in board.ranks(scenario).values()) - 1
            yield Headline(title, leader.group.label, show(op.mean, "accuracy"), ties)
