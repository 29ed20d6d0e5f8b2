"""``clbench board``: what it does with its words."""

from __future__ import annotations

import sys
from pathlib import Path

from clbench.board.building import build_board

#: Lines on files that cannot be read; the site has all of them.
SHOWN = 20


def make_board(folder: Path, site: Path, heading: str, data_dir: Path) -> int:
    """Make the site and say what is on it; returns the exit code.

    Raises:
        ClbenchError: as :func:`~clbench.board.building.build_board`.
    """
    made = build_board(folder, site, heading, data_dir)
    for line in [made.note] * bool(made.note) + list(made.problems[:SHOWN]):
        print(f"warning: {line}", file=sys.stderr)
    if len(made.problems) > SHOWN:
        more = len(made.problems) - SHOWN
        print(f"warning: {more} more files; the site names them", file=sys.stderr)
    count = len(made.submissions)
    runs = sum(one.runs for one in made.submissions)
    rows = ", ".join(f"{number:,} {word}" for word, number in made.counts.items())
    print(
        f"{count} submission{'s' * (count != 1)} ({made.checked} checked anew), {runs:,} runs, "
        f"{made.boards} boards; rows: {rows}. Site: {made.index}",
        flush=True,
    )
    return 0
