"""A page for each score, from its function and its column: docs/scores/NAME.md, listed in docs/scores.md.

    python tools/score_pages.py

Formula and arguments are those of the function's docstring, meaning and bounds those of the column of
reports, the worked number is computed, and what other programs call by the name is read from the table
of docs/scores.md, which tests hold to these programs' own numbers.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from page_parts import DOCS, ROOT, between, google, made, papers, sentence, write

from clbench.metrics import METRICS
from clbench.record import scores, stability
from clbench.report.metrics import METRICS as COLUMNS
from clbench.report.metrics import bounds

INDEX = DOCS / "scores.md"
#: The matrix that docs/scores.md works by hand, and what goes with it.
R = [[0.9, 0.3, 0.1], [0.6, 0.8, 0.2], [0.5, 0.7, 0.9]]
KNOWN = {"images": [100, 50, 50], "baseline": 0.1, "reference": [0.95, 0.9, 0.9]}


@dataclass(frozen=True)
class Row:
    """A score.

    Attributes:
        of: what computes it; None where a record has it as it was measured.
        where: its key in ``summary.json``; empty where a single run cannot have it.
        needs: what a recipe must say for it.
    """

    of: Callable[..., Any] | type | None
    where: str
    needs: str = ""


def _row(name: str, needs: str = "") -> Row:
    of = getattr(scores, name, None) or getattr(stability, name)
    return Row(of, f"task_incremental.{name}, class_incremental.{name}", needs)


ALL = "`evaluate: all`: tasks are tested before they are learned"
CURVES = "`eval_every`: tasks are tested while later ones are trained"
SCORES = {
    **{name: _row(name) for name in ("overall_performance", "average_incremental_accuracy")},
    **{name: _row(name) for name in ("backward_transfer", "forgetting", "learning_accuracy")},
    **{name: _row(name, ALL) for name in ("forward_transfer", "mtil_transfer", "mtil_average")},
    "intransigence": Row(scores.intransigence, "", "runs to compare with: `clbench score --reference`, "
                         "or runs of plain fine-tuning with `stream.independent` in a report"),
    **{name: _row(name, CURVES) for name in ("min_accuracy", "worst_case_accuracy")},
    "retention": Row(None, "retention.after_task", "images of what the network was pretrained for"),
    "kept": Row(None, "retention.kept", "the same as retention"),
    "geometric_mean": _row("geometric_mean", "the same as retention"),
    "average": Row(None, "", "the same as retention: reports compute it"),
    "calibration_error": Row(METRICS["calibration_error"], "metrics.calibration_error",
                             "`metrics: [calibration_error]`"),
    "nll": Row(METRICS["nll"], "metrics.nll", "`metrics: [nll]`"),
}  # fmt: skip
#: Where a score's column has another name, and what it means where there is no column.
ABOUT = {"intransigence": "what is lost in learning, against networks that had nothing to keep"}


def page(name: str) -> str:
    """The page of a score, as Markdown."""
    row, column = SCORES[name], COLUMNS.get(name)
    about = column.about if column else ABOUT[name]
    source = _source(row)
    parts = [
        f"{made('score_pages', source)}\n\n# `{name}`",
        sentence(about),
        "\n".join(f"- {line}" for line in _facts(name, row)),
        *_definition(row),
        *_worked(name, row),
        *_others(name),
        f"Its file is [{source}](../../{source}).",
        "[All scores](../scores.md)",
    ]
    return "\n\n".join(parts) + "\n"


def index(text: str) -> str:
    """The text of docs/scores.md with the list of pages in its place."""
    return between(text, "score_pages", " ·\n".join(f"[`{n}`](scores/{n}.md)" for n in SCORES))


def _source(row: Row) -> str:
    if row.of is None:
        return "clbench/report/metrics.py"
    return Path(inspect.getfile(row.of)).relative_to(ROOT).as_posix()


def _facts(name: str, row: Row) -> Iterator[str]:
    if name in scores.LABELS:
        yield f"In words: {scores.LABELS[name]}."
    if column := COLUMNS.get(name):
        yield f"Column of reports: {column.label}."
        low, high = bounds(name)
        top = f"to {high:g}" if math.isfinite(high) else "upwards"
        yield f"Range: from {low:g} {top}; {'more' if column.better > 0 else 'less'} is better."
    else:
        yield "Range: from -1 to 1; less is better."
    if row.where:
        yield f"In `summary.json`: {', '.join(f'`{key}`' for key in row.where.split(', '))}."
    else:
        yield "Not in `summary.json`."
    if row.needs:
        yield f"Needs {row.needs}."


def _definition(row: Row) -> Iterator[str]:
    if row.of is None:
        return
    yield "## Definition"
    yield google(inspect.getdoc(row.of) or "")
    listed = papers(inspect.getdoc(sys.modules[row.of.__module__]) or "")
    cited = set(re.findall(r"\[(\d+)\]", inspect.getdoc(row.of) or ""))
    mine = [paper for paper in listed if paper[1 : paper.index("]")] in cited]
    if mine:
        yield "\n".join(f"- {paper}" for paper in mine)


def _worked(name: str, row: Row) -> Iterator[str]:
    if name not in scores.LABELS:
        return
    found = scores.all_scores(R, **KNOWN)  # type: ignore[arg-type]
    yield "## Worked"
    lines = ["| after | task 1 | task 2 | task 3 |", "| --- | --- | --- | --- |"]
    lines += [f"| task {t} | {' | '.join(map(str, row_))} |" for t, row_ in enumerate(R, start=1)]
    yield "\n".join(lines)
    also = f"{name}_micro"
    micro = f", and over images (100, 50 and 50) {found[also]:.3g}" if also in found else ""
    asked = {"forward_transfer": " with 0.1 before the first task",
             "intransigence": " against networks that reach 0.95, 0.9 and 0.9"}  # fmt: skip
    yield (f"Here it is **{found[name]:.3g}**{asked.get(name, '')}{micro}; [all scores of this "
           "matrix](../scores.md#a-matrix-worked-by-hand).")  # fmt: skip


def _others(name: str) -> Iterator[str]:
    labels = {scores.LABELS[key] for key in (name, f"{name}_micro") if key in scores.LABELS}
    rows = [line for line in INDEX.read_text("utf-8").splitlines()
            if line.startswith("| ") and line[2:].split(" | ")[0] in labels]  # fmt: skip
    if not rows:
        return
    yield "## What other programs call so"
    yield ("In per cent, of four matrices; `=`: the same number, otherwise theirs ≠ clbench’s. "
           "[How it was compared](../scores.md#what-other-programs-compute).")  # fmt: skip
    head = "| score | program and its name | lower | full | unequal | improving |"
    yield "\n".join([head, "| --- | --- | --- | --- | --- | --- |", *rows])


def pages() -> dict[str, str]:
    """Every page, by name."""
    return {name: page(name) for name in SCORES}


if __name__ == "__main__":
    write(DOCS / "scores", pages())
    INDEX.write_text(index(INDEX.read_text("utf-8")), "utf-8")
