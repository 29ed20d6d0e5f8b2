"""The page to begin with, and that of each submission."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clbench.board.board_page import Headline
from clbench.board.boards import VERDICTS, Board
from clbench.board.pages import render
from clbench.board.taking import Taken

#: Pages of runs, to the boards that they stand on.
Places = Mapping[str, Sequence[Board]]


def write_index(
    site: Path,
    heading: str,
    submissions: Sequence[Taken],
    boards: Sequence[tuple[Board, Sequence[Headline]]],
    orders: Sequence[tuple[str, str]],
    problems: Sequence[str],
) -> None:
    """Write the page to begin with.

    Args:
        site: folder of the whole site.
        heading: of the page.
        submissions: all that could be read.
        boards: all of them, with what to say of each.
        orders: name and title of each page over class orders.
        problems: a line for each file that could not be read.
    """
    counts = Counter(row.verdict for one in submissions for row in one.rows)
    tree: dict[str, list[tuple[Board, Sequence[Headline]]]] = defaultdict(list)
    for board, firsts in boards:
        tree[board.key.stream].append((board, firsts))
    render(
        "index.html",
        site / "index.html",
        0,
        heading=heading,
        submissions=submissions,
        runs=sum(one.runs for one in submissions),
        counts={word: counts[word] for word in VERDICTS},
        verdicts=VERDICTS,
        streams=len(tree),
        tree=tree,
        orders=orders,
        problems=problems,
    )


def write_submission(site: Path, one: Taken, places: Places) -> Path:
    """Write the page of a submission; returns its path."""
    alike: dict[Any, dict[str, Any]] = {}
    for row in one.checks:
        key = row.made, tuple(sorted(row.not_made.items()))
        kept = alike.setdefault(key, {"made": row.made, "not_made": row.not_made, "rows": []})
        kept["rows"].append(row.method)
    on = [places.get(row.pages[0], ()) for row in one.rows]
    boards = list({board.key: board for found in on for board in found}.values())
    number = {board.key: n for n, board in enumerate(boards)}
    path = site / "submissions" / one.name / "index.html"
    render(
        "submission.html",
        path,
        2,
        one=one,
        boards=boards,
        places=[[number[board.key] for board in found] for found in on],
        checks=list(alike.values()),
    )
    return path


def places_of(boards: Sequence[Board]) -> Places:
    """The boards that each row stands on, by the page of its first run."""
    found: dict[str, list[Board]] = defaultdict(list)
    for board in boards:
        for row in board.by_number.values():
            found[row.pages[0]].append(board)
    return found
