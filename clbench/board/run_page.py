"""The page of one run: its accuracy matrix, curves, scores, recipe and machine, and its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from clbench.board.curves import HEIGHT, WIDTH, curves_of
from clbench.board.pages import put_file, render
from clbench.record.record import Scenario
from clbench.report.gather import Run
from clbench.report.metrics import METRICS, show
from clbench.submission.verdicts import RowVerdict
from clbench.text.numbers import counted, duration
from clbench.text.numbers import size as bytes_of

#: Tasks whose matrix a page shows; of more, its last row and its diagonal.
MATRIX = 40


def write_run(run: Run, folder: Path, row: RowVerdict, title: str) -> None:
    """Write the page of a run and its record beside it.

    Args:
        run: as it was read.
        folder: where to.
        row: what was found out about it.
        title: of its submission.
    """
    put_file(folder / "record.jsonl", "".join(event.text for event in run.record.events).encode())
    render(
        "run.html",
        folder / "index.html",
        3,
        run=run,
        about=run.record.run,
        number=folder.name,
        row=row,
        submission=title,
        parts=[_part(run, s, title) for s, title in run.record.scenarios.items()],
        scores=list(_scores(run)),
        facts=list(_facts(run)),
        width=WIDTH,
        height=HEIGHT,
    )


def _part(run: Run, scenario: Scenario, title: str) -> dict[str, object]:
    """What the page shows of one scenario."""
    matrix: Sequence[Sequence[float | None]] = run.summary[scenario]["accuracy_matrix"]
    whole = len(matrix) <= MATRIX
    own = [line[task] for task, line in enumerate(matrix)]
    return {
        "title": title,
        "matrix": matrix if whole else None,
        "ends": [] if whole else list(zip(matrix[-1], own, strict=True)),
        "curves": curves_of(run.record, scenario),
    }


def _scores(run: Run) -> Iterator[tuple[str, str, list[str]]]:
    """Every score that the run has: its name, what it is, and its value in each scenario."""
    scenarios = list(run.record.scenarios)
    for name, about in METRICS.items():
        values = [run.score(name, scenario) for scenario in scenarios]
        if any(value is not None for value in values):
            yield about.label, about.about, [show(value, about.unit) for value in values]


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """What else there is to say of a run, a line each."""
    about, cost = run.record.run, run.summary["cost"]
    yield "Stream", f"{run.stream}, {len(about.tasks)} tasks"
    yield "Backbone", f"{about.backbone}, {about.parameters:,} parameters"
    yield "Starting weights", f"{about.weights.source or 'unknown'} {about.weights.sha256 or ''}"
    yield "Splits", about.split_manifest_sha256 or "unknown"
    steps, images = cost["train_steps"], cost["samples"]
    yield "Training", f"{counted(steps, 'step')} on {counted(images, 'image')} in all"
    yield "Time", duration(cost["seconds"])
    yield "Peak memory", bytes_of(cost["peak_memory_bytes"])
    if about.laid_on:
        yield "Laid on", f"the weights of the finished run {about.laid_on}; it alone trained"
    for line in about.warnings:
        yield "Warning", line
