"""``clbench list``: what there is, and what of it was verified."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clbench.report.reported import Ours, Reported, ours, reported

NOT_RUN = "not run"


def all_names() -> str:
    """Streams, methods, measures of retention, loggers and backbones, with a line each."""
    from clbench.methods import METHODS
    from clbench.metrics.retained import MEASURES
    from clbench.models import TRIED
    from clbench.recipe.attached import CALLBACKS, LOGGERS
    from clbench.streams import STREAMS, describe

    tables = {
        "streams": {name: describe(name) for name in STREAMS},
        "methods": {name: cls.summary for name, cls in METHODS.items()},
        "measures of retention": {name: cls.summary for name, cls in MEASURES.items()},
        "loggers": {name: cls.summary for name, cls in LOGGERS.items()},
        "backbones (any timm name works; these are tested)": TRIED,
    }
    if CALLBACKS:
        tables["callbacks"] = {
            name: (make.__doc__ or "").split("\n")[0] for name, make in CALLBACKS.items()
        }
    lines = []
    for title, rows in tables.items():
        lines += [f"{title}:", *(f"  {name:<22} {text}" for name, text in rows.items()), ""]
    return "\n".join(lines).rstrip()


def verified(known: Sequence[str], console: Console | None = None) -> None:
    """Print what papers report beside what was measured here.

    Args:
        known: the methods that there are; numbers of others are passed over.
        console: where to print.
    """
    console = console or Console(soft_wrap=True)
    table = Table(title="Reported and measured here, in %", title_justify="left")
    for column in ("method", "stream", "weights", "score"):
        table.add_column(column)
    for column in ("reported", "ours", "interval"):
        table.add_column(column, justify="right")
    for column in ("command", "record"):
        table.add_column(column)
    rows = [row for row in reported() if row.method in known]
    for row in rows:
        cells = (row.method, row.stream, row.weights, row.what, f"{row.reported:g}")
        table.add_row(*map(escape, (*cells, *of_ours(row, ours(row)))))
    console.print(table)
    count = sum(ours(row) is not None for row in rows)
    console.print(
        f"{count} of {len(rows)} numbers were measured here; where each was looked up, and what "
        "other programs have, stands on the methods' pages: docs/methods/.",
        highlight=False,
    )


def of_ours(row: Reported, found: Ours | None) -> tuple[str, str, str, str]:
    """Our number, its interval, the command and the record, for people."""
    command = row.command or "–"
    if found is None:
        return NOT_RUN, "–", command, "–"
    interval = "–"
    if found.low is not None and found.high is not None:
        interval = f"{100 * found.low:.1f} … {100 * found.high:.1f} ({found.interval})"
    seeds = f"{found.seeds} seed{'s' * (found.seeds > 1)}"
    return f"{100 * found.value:.1f}", interval, command, f"docs/results/{found.page}, {seeds}"
