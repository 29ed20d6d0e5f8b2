"""``clbench board``: what it does with its words."""

from __future__ import annotations

import sys
from pathlib import Path

from clbench.cli.options import Given
from clbench.text.numbers import counted

#: Lines on files that cannot be read; the site has all of them.
SHOWN = 20


def make_board(given: Given) -> int:
    """Make the site and say what is on it; returns the exit code.

    Raises:
        ClbenchError: as :func:`~clbench.board.building.build_board`.
    """
    from clbench.board.building import build_board  # draws: matplotlib takes half a second

    made = build_board(
        given.get("folder"),
        given.get("output", Path("board")),
        given.get("title", "clbench board"),
        given.get("data_dir", Path("data")),
    )
    for line in [made.note] * bool(made.note) + list(made.problems[:SHOWN]):
        print(f"warning: {line}", file=sys.stderr)
    if len(made.problems) > SHOWN:
        more = len(made.problems) - SHOWN
        print(f"warning: {more} more files; the site names them", file=sys.stderr)
    count = len(made.submissions)
    runs = sum(one.runs for one in made.submissions)
    rows = ", ".join(f"{number:,} {word}" for word, number in made.counts.items())
    print(
        f"{counted(count, 'submission')} ({made.checked} checked anew), {counted(runs, 'run')}, "
        f"{counted(made.boards, 'board')}; rows: {rows}. Site: {made.index}",
        flush=True,
    )
    return 0
