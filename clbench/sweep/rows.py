"""What was laid on a run, on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clbench.record.record import Record
from clbench.runner.screen import percent
from clbench.sweep.posthoc import FOLDER

COLUMNS = {"Ā": "average_incremental_accuracy", "OP": "overall_performance"}


def show(
    run: Record, rows: Sequence[Record], failed: Mapping[str, str], console: Console | None = None
) -> None:
    """Print the scores of a run and of what was laid on it, and where they are.

    Args:
        run: that was trained.
        rows: of what was laid on it.
        failed: why there are no more, by name.
    """
    console = console or Console(soft_wrap=True)
    table = Table(
        title=f"{escape(run.run.title)} and what was laid on it, in % "
        f"({' / '.join(run.scenarios.values())})",
        title_justify="left",
    )
    table.add_column("", no_wrap=True)
    for column in (*COLUMNS, "retention", "seconds"):
        table.add_column(column, justify="right")
    table.add_row("as it was trained", *_cells(run))
    for row in rows:
        table.add_row(escape(row.folder.name), *_cells(row))
    console.print(table)
    for name, reason in failed.items():
        console.print(f"[bold red]{escape(name)}: no row: {escape(reason)}", highlight=False)
    console.print(
        f"Rows in {escape(str(run.folder / FOLDER))}; `clbench report {escape(str(run.folder))}` "
        "has them beside the run.",
        highlight=False,
    )


def _cells(record: Record) -> list[str]:
    summary: Mapping[str, Any] = record.summary()
    cells = [
        " / ".join(percent(summary[scenario][key]) for scenario in record.scenarios)
        for key in COLUMNS.values()
    ]
    kept = summary["retention"]["after_task"]
    return [*cells, percent(kept[-1] if kept else None), f"{summary['cost']['seconds']:,.1f}"]
