"""The table at the end of a run."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clbench.record.events import TaskEvent
from clbench.record.record import SCENARIOS, Record
from clbench.record.scopes import sentence
from clbench.record.scores import LABELS, SIGNED
from clbench.runner.products import LOADER, NUMBERS, PICTURES, WEIGHTS
from clbench.text.numbers import flops

#: What is named at the end of a run.
FILES = (*NUMBERS, *PICTURES, "record.jsonl", "config.yaml", "environment.json", WEIGHTS, LOADER)
#: The parts of a task.
PARTS = {
    "prepare": "preparing",
    "fit": "training",
    "finish": "finishing",
    "deploy": "deploying",
    "test": "testing",
    "retention": "retention",
    "representation": "asking the features",
}
#: Measures of retention in the line of a task; the end of a run has all.
MOST = 3
ROWS = (
    "overall_performance",
    "average_incremental_accuracy",
    "backward_transfer",
    "forgetting",
    "learning_accuracy",
)


def show(record: Record, console: Console | None = None) -> None:
    """Print the scores of a run and where its files are."""
    console = console or Console(soft_wrap=True)
    summary = record.summary()
    _show_scores(record, summary, console)
    _show_retention(record, summary["retention"], console)
    _show_retained(record, summary["retention"], console)
    from clbench.report.figures import lacking_fonts  # matplotlib takes a while

    if lacking := lacking_fonts(record):
        console.print(escape(lacking), highlight=False)
    for name in summary["inactive"]:
        console.print(f"[bold red]WARNING: method {name} had no effect in this run (inactive).")
    for name in summary["ineffective"]:
        from clbench.methods import METHODS  # PyTorch takes seconds

        of = METHODS[name].scope_means if name in METHODS else "see docs/methods.md"
        told = sentence(name, summary["scope"][name], of)
        console.print(f"[bold red]WARNING: {escape(told)}", highlight=False)
    for name, found in summary.get("representation", {}).items():
        learned, change = percent(found["learned"]), percent(found["change"], True)
        console.print(
            f"Features by {name} anew, mean over tasks: {percent(found['final'])} % in the end, "
            f"{learned} % once learned; of earlier tasks, change {change} points.",
            highlight=False,
        )
    _show_costs(summary["footprint"], summary["cost"], console)
    folder = escape(str(record.folder))
    console.print(f"Files in {folder}:", highlight=False)
    console.print(
        "  " + "  ".join(name for name in FILES if (record.folder / name).exists()), highlight=False
    )
    console.print(f"Curves: tensorboard --logdir {folder}", highlight=False)


def _show_scores(record: Record, summary: dict[str, Any], console: Console) -> None:
    table = Table(
        title=f"{escape(summary['name'])} after {len(record.tasks)} tasks", title_justify="left"
    )
    table.add_column("in %")
    for title in record.scenarios.values():
        table.add_column(title, justify="right")
    for name in ROWS:
        shown = (percent(summary[s][name], name in SIGNED) for s in record.scenarios)
        table.add_row(LABELS[name], *shown)
    console.print(table)
    for name, found in summary.get("metrics", {}).items():
        means = [f"{number(found[s]['final'])} {title}" for s, title in record.scenarios.items()]
        console.print(f"{escape(name)}, mean over tasks: {', '.join(means)}.", highlight=False)


def _show_retention(record: Record, retention: dict[str, Any], console: Console) -> None:
    if retention["pretrained"] is None:
        if retention.get("measures"):
            return  # others are shown; why not this was said at the start, if it was asked for
        console.print(
            "Retention by the original head was not measured: it needs weights with the head of "
            "their pretraining, and images for it; --dry_run says which is missing."
        )
    elif retention["after_task"]:
        console.print(
            f"Retention (top-1): {percent(retention['pretrained'] + retention['change'])} % "
            f"{'on average over the tasks' if record.run.independent else 'after the stream'}, "
            f"{percent(retention['pretrained'])} % pretrained, "
            f"change {percent(retention['change'], True)} points."
        )
        for name, found in retention.get("metrics", {}).items():
            end = number(found["before"] + found["change"])
            told = f"{escape(name)} of retention: {end}, {number(found['before'])} pretrained."
            console.print(told, highlight=False)


def _show_retained(record: Record, retention: dict[str, Any], console: Console) -> None:
    """What other measures say is kept."""
    names = [name for name in retention.get("measures", {}) if name != "head"]
    if not names or not record.tasks:
        return
    when = "mean over tasks" if record.run.independent else "after"
    table = Table(title="Kept of what it knew", title_justify="left")
    for text in ("in %", "before", when, "kept"):
        table.add_column(text, justify="left" if text == "in %" else "right")
    for name in names:
        found = retention["measures"][name]
        end = found["before"] + found["change"]
        shown = (found["before"], end, found["kept"])
        table.add_row(escape(name), *map(percent, shown))
    console.print(table)


def _show_costs(needs: dict[str, Any], cost: dict[str, Any], console: Console) -> None:
    console.print(
        f"Footprint: {'data-oblivious' if needs['data_oblivious'] else 'uses past data'}, "
        f"{needs['stored_samples']:,} stored samples ({needs['stored_bytes'] / 1e6:.1f} MB), "
        f"{needs['weight_copies']} weight copies, "
        f"{needs['extra_passes_per_step']:.2g} extra passes a step, "
        f"{needs['time_share']:.0%} of the time."
    )
    console.print(
        f"{cost['train_steps']:,} steps, {cost['samples']:,} samples, "
        f"{cost['parameters']:,} parameters, {cost['seconds']:.1f} s{_where(cost)}."
        + ("" if cost["flops"] is None else f" Training took {flops(cost['flops'])}.")
    )


def _where(cost: dict[str, Any]) -> str:
    """Where the time went, the most first; parts below a hundredth are left out."""
    whole, parts = cost["seconds"], cost["seconds_by_part"]
    shares = sorted(((taken / whole, part) for part, taken in parts.items()), reverse=True)
    told = [f"{PARTS[part]} {share:.0%}" for share, part in shares if share >= 0.01]
    return f": {', '.join(told)}" if told else ""


def line(event: TaskEvent, shared: bool = False) -> str:
    """A finished task in one line.

    Args:
        event: the task's.
        shared: whether tasks share labels, so that there is one accuracy.
    """
    own = event.evaluated.index(event.task)
    by_task, by_class = (sum(event.of(s)) / len(event.of(s)) for s in SCENARIOS)
    parts = [
        f"accuracy {event.task_incremental[own]:.1%}",
        f"mean of seen tasks {by_task:.1%}"
        + ("" if shared else f" (class-incremental {by_class:.1%})"),
    ]
    if event.retention:
        parts.append(f"retention {event.retention.top1:.1%}")
    kept = [f"{name} {value:.1%}" for name, value in event.retained.items()]
    more = len(kept) - MOST
    parts += kept if more <= 1 else [*kept[:MOST], f"{more} more measures"]
    return ", ".join([*parts, f"{event.seconds:.1f} s"])


def number(value: float | None) -> str:
    """Three digits of a number; a dash for None."""
    return "–" if value is None else f"{value:.3g}"


def percent(value: float | None, signed: bool = False) -> str:
    """A fraction in percent with one decimal; a dash for None.

    >>> percent(0.1234), percent(-0.5, signed=True), percent(None)
    ('12.3', '-50.0', '–')
    """
    return "–" if value is None else f"{100 * value:{'+' if signed else ''}.1f}"
