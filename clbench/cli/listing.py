"""``clbench list``: what there is, and what of it was verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from clbench.record.record import TITLES
from clbench.report.reported import RESULTS, Ours, Reported, measured_alone, ours, reported

NOT_RUN = "not run"
#: Of numbers whose records an installed package does not have.
NOT_HERE = "not here"


def listed() -> dict[str, dict[str, str]]:
    """By title, the names of streams, methods … with a line each, as the classes say."""
    from clbench.methods import METHODS
    from clbench.metrics.retained import MEASURES
    from clbench.models import TRIED
    from clbench.record.loggers import LOGGERS
    from clbench.streams import STREAMS, describe

    return {
        "streams": {name: describe(name) for name in STREAMS},
        "methods": {name: cls.summary for name, cls in METHODS.items()},
        "measures of retention": {name: cls.summary for name, cls in MEASURES.items()},
        "loggers": {name: cls.summary for name, cls in LOGGERS.items()},
        "backbones (any timm name works; these are tested)": TRIED,
    }


def all_names() -> str:
    """Streams, methods, measures of retention, loggers and backbones, with a line each."""
    from clbench.plugins.tables import CALLBACKS
    from clbench.recipe.known import said

    tables = dict(said("listed", listed))
    if CALLBACKS:
        tables["callbacks"] = {
            name: (make.__doc__ or "").split("\n")[0] for name, make in CALLBACKS.items()
        }
    lines = []
    for title, rows in tables.items():
        lines += [f"{title}:", *(f"  {name:<22} {text}" for name, text in rows.items()), ""]
    return "\n".join(lines).rstrip()


def verified(known: Sequence[str], console: Console | None = None) -> None:
    """Print what papers report beside what was measured here, method by method.

    Args:
        known: the methods that there are; numbers of others are passed over.
        console: where to print.
    """
    console = console or Console(soft_wrap=True)
    console.print(
        "Reported, and measured here, in % [95 % interval]\n", highlight=False, markup=False
    )
    rows = [row for row in reported() if row.method in known]
    for method in known:
        lines = [*_reported(method, rows), *_alone(method)]
        if lines:
            text = "\n".join(f"  {line}" for line in lines)
            console.print(f"{method}\n{text}\n", highlight=False, markup=False)
    count = sum(ours(row) is not None for row in rows)
    told = f"{count} of {len(rows)} reported numbers were measured here"
    if not RESULTS.is_dir():  # an installed package
        told = "What was measured lies in docs/results of the repository, which is not here"
    console.print(
        f"{told}; where each number was looked up, and what other programs have, stands on the "
        "methods' pages: docs/methods/.",
        highlight=False,
    )


def _reported(method: str, rows: Sequence[Reported]) -> Iterator[str]:
    """The lines of a method's reported numbers, by stream, weights and command."""
    told = ("", "", "")
    for row in rows:
        if row.method != method:
            continue
        place = (row.stream, row.weights, row.command or "")
        if place != told:
            told = place
            yield f"{row.stream}; {row.weights}" + f": {row.command}" * bool(row.command)
        found = ours(row)
        own = NOT_RUN if RESULTS.is_dir() else NOT_HERE
        if found is not None:
            own = f"{of_ours(found)}, docs/results/{found.page}"
        yield f"  {row.what}: reported {row.reported:g}, ours {own}"


def _alone(method: str) -> Iterator[str]:
    """The lines of what was measured here without a number of a paper beside it."""
    for first, by in measured_alone(method):
        command = f"python studies/{first.page}.py --run"
        yield f"docs/results/{first.page}, {first.row}; {first.stream}: {command}"
        names = {str(key): title for key, title in TITLES.items()} | {"retention": "retention"}
        yield "  " + "; ".join(f"{names[what]} {of_ours(x)}" for what, x in by.items())


def of_ours(found: Ours) -> str:
    """A number of ours with its interval and seeds."""
    text = f"{100 * found.value:.1f}"
    if found.low is not None and found.high is not None:
        text += f" [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    return f"{text} ({found.seeds} seed{'s' * (found.seeds > 1)})"
