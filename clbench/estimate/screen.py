"""An estimate on the screen: a table of tasks, then disk, memory and time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clbench.estimate.estimating import Estimate
from clbench.text.numbers import duration, size

#: Columns of the table, by field of a task.
COLUMNS = {
    "steps": "steps",
    "samples": "trained on",
    "tested": "tests",
    "curve": "curves",
    "retained": "retention",
    "probed": "features",
    "passed": "other passes",
}


def show(estimate: Estimate, console: Console | None = None) -> None:
    """Print what a run will need."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=120)
    total = estimate.total
    total = total._replace(retained=total.retained + estimate.pretrained)
    table = Table(
        title=f"{escape(estimate.title)} will need",
        title_justify="left",
        box=box.HEAVY_HEAD if console.is_terminal else None,
        show_footer=True,
    )
    shown = [field for field in COLUMNS if getattr(total, field) or field == "steps"]
    table.add_column("task", "all", max_width=32, no_wrap=True)
    for field in shown:
        table.add_column(COLUMNS[field], f"{getattr(total, field):,}", justify="right")
    table.add_column("time", duration(total.seconds), justify="right")
    for task in estimate.tasks:
        row = [f"{getattr(task, field):,}" for field in shown]
        table.add_row(escape(task.name), *row, duration(task.seconds))
    console.print(table)
    for line in _lines(estimate):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _lines(estimate: Estimate) -> Iterator[str]:
    """What follows the table, a line each."""
    memory, total = dict(estimate.memory), estimate.total
    on = "resident memory" if estimate.device.startswith("cpu") else "GPU memory"
    each, peak = " each" * (estimate.devices > 1), memory.pop("peak")
    evaluated = estimate.pretrained + total.tested + total.curve + total.retained + total.probed
    yield (
        f"Time    about {duration(estimate.seconds)}, imports not counted: "
        f"{duration(estimate.start)} to start, {duration(estimate.end)} to write the results "
        f"(measured on {estimate.device})"
    )
    yield f"Memory  about {size(peak)} of {on}{each}; in it {_listed(memory)}"
    yield f"Disk    about {size(sum(estimate.disk.values()))}: {_listed(estimate.disk)}"
    yield (
        f"Images  {total.samples:,} trained on, {evaluated:,} evaluated; "
        f"{estimate.parameters:,} parameters"
    )
    for missing in estimate.missing:
        state = "not here, the run fetches it" if missing.fetched else "MISSING"
        yield f"{missing.what}: {state}: {missing.how}"
    for note in estimate.notes:
        yield f"Note: {note}."


def _listed(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size(count)}" for name, count in parts.items() if count)
