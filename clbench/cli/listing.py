"""``clbench list``: what there is, and what of it was verified."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clbench.report.reported import Ours, Reported, ours, reported

NOT_RUN, NONE = "not run", "–"


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
    rows = [row for row in reported() if row.method in known]
    console.print("Reported and measured here, in %")
    for stream, weights in dict.fromkeys((row.stream, row.weights) for row in rows):
        console.print(f"\n{escape(stream)}; {escape(weights)}", highlight=False)
        _print_numbers([r for r in rows if (r.stream, r.weights) == (stream, weights)], console)
    count = sum(ours(row) is not None for row in rows)
    console.print(
        f"\n{count} of {len(rows)} numbers were measured here; where each was looked up, and what "
        "other programs have, stands on the methods' pages: docs/methods/.",
        highlight=False,
    )


def _print_numbers(rows: Sequence[Reported], console: Console) -> None:
    """Numbers of one stream and one network, and under them where each is or would be measured."""
    table = Table("method", "score")
    for column in ("reported", "ours", "interval"):
        table.add_column(column, justify="right")
    places: dict[str, dict[str, None]] = {}
    for row in rows:
        value, interval, command, record = of_ours(row, ours(row))
        table.add_row(*map(escape, (row.method, row.what, f"{row.reported:g}", value, interval)))
        kept = "" if record == NONE else f"; record: {record}"
        if command != NONE or kept:
            places.setdefault(f"{command}{kept}", {})[row.method] = None
    console.print(table)
    for place, methods in places.items():
        console.print(escape(f"  {', '.join(methods)}: {place}"), highlight=False)


def of_ours(row: Reported, found: Ours | None) -> tuple[str, str, str, str]:
    """Our number, its interval, the command and the record, for people."""
    command = row.command or NONE
    if found is None:
        return NOT_RUN, NONE, command, NONE
    interval = NONE
    if found.low is not None and found.high is not None:
        interval = f"{100 * found.low:.1f} … {100 * found.high:.1f} ({found.interval})"
    seeds = f"{found.seeds} seed{'s' * (found.seeds > 1)}"
    return f"{100 * found.value:.1f}", interval, command, f"docs/results/{found.page}, {seeds}"
