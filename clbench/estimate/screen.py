"""An estimate on the screen: a table of tasks, then disk, memory and time."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clbench.estimate.estimating import Estimate
from clbench.text.numbers import duration, size

#: What the entries of an estimate's memory are.
MEMORY = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "anchors": "anchors θ_* and θ_o",
    "methods": "methods' own",
    "images": "images",
    "activations": "activations",
}


def show(estimate: Estimate, console: Console | None = None) -> None:
    """Print what a run will need."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=120)
    console.print(table(estimate, box.HEAVY_HEAD if console.is_terminal else None))
    for line in lines(estimate):
        console.print(escape(line), highlight=False, soft_wrap=True)


def table(estimate: Estimate, edge: box.Box | None) -> Table:
    """The tasks, and their sum."""
    made = Table(
        title=f"{escape(estimate.title)} will need",
        title_justify="left",
        box=edge,
        show_footer=True,
    )
    tasks = estimate.tasks
    columns = {
        "steps": [t.steps for t in tasks],
        "trained on": [t.samples for t in tasks],
        "tests": [t.tested for t in tasks],
        "curves": [t.curve for t in tasks],
        "retention": [t.retained for t in tasks],
        "other passes": [t.passed for t in tasks],
    }
    shown = [name for name, values in columns.items() if any(values) or name == "steps"]
    made.add_column("task", "all", max_width=32, no_wrap=True)
    for name in shown:
        total = sum(columns[name]) + (estimate.pretrained if name == "retention" else 0)
        made.add_column(name, f"{total:,}", justify="right")
    made.add_column("time", duration(sum(t.seconds for t in tasks)), justify="right")
    for number, task in enumerate(tasks):
        row = [f"{columns[name][number]:,}" for name in shown]
        made.add_row(escape(task.name), *row, duration(task.seconds))
    return made


def lines(estimate: Estimate) -> list[str]:
    """What follows the table, a line each."""
    memory, each = estimate.memory, " each" if estimate.devices > 1 else ""
    parts = {text: memory[name] for name, text in MEMORY.items() if memory[name]}
    on = "resident memory" if estimate.device.startswith("cpu") else "GPU memory"
    told = [
        f"Time    about {duration(estimate.seconds)}, imports not counted: "
        f"{duration(estimate.start)} to start, {duration(estimate.end)} to write the results "
        f"(measured on {estimate.device})",
        f"Memory  about {size(memory['peak'])} of {on}{each}; in it {_listed(parts)}",
        f"Disk    about {size(sum(estimate.disk.values()))}: {_listed(estimate.disk)}",
        f"Images  {estimate.samples:,} trained on, {estimate.evaluated:,} evaluated; "
        f"{estimate.parameters:,} parameters",
    ]
    for absent in estimate.absent:
        state = "not here, the run fetches it" if absent.fetched else "MISSING"
        told.append(f"{absent.what}: {state}: {absent.how}")
    return told + [f"Note: {note}." for note in estimate.notes]


def _listed(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size(count)}" for name, count in parts.items())
