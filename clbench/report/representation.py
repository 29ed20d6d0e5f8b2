"""What the features still tell of earlier tasks, by classifiers made anew, as a table."""

from __future__ import annotations

from itertools import product

from clbench.record.record import Scenario
from clbench.report.cells import Entry, Head, Table, score_cell
from clbench.report.metrics import Unit
from clbench.report.section import Section

NOTE = (
    "Accuracy on each task’s test images of a classifier (ridge: a linear probe) that its training "
    "images make anew of the features: mean over tasks, right after each was learned and in the "
    "end. Δ: of the tasks but the last, the end minus right after it was learned; what a head lost "
    "and the features did not is not in it. Among a task’s own classes. Settings that are not the "
    "defaults, and per_class (images of a class to learn from), are part of a measure’s name."
)
#: Of a measure: the head of the column, and what it is.
PARTS = {
    "learned": ("learned", "right after each task was learned"),
    "final": ("in the end", "after the last task"),
    "change": ("Δ", "of earlier tasks, the end minus right after each was learned"),
}


def asked(section: Section) -> list[str]:
    """The measures by which finished runs of a section asked the features, with their settings."""
    runs = [run for group in section.groups for run in group.finished]
    return [*dict.fromkeys(name for run in runs for name in run.probes)]


def representation_table(section: Section) -> Table | None:
    """Every measure right after learning, in the end, and its change; None if there is none."""
    found = asked(section)
    if not found:
        return None
    heads = [Head("Method")]
    for measure, (text, about) in product(found, PARTS.values()):
        heads.append(Head(f"{measure}, {text}", f"{measure}, {about}", 1))
    first: Scenario = next(iter(section.scenarios))
    body = []
    for group in [row.group for row in section.leaderboard(first) if row.group.finished]:
        line = [Entry(group.label, group.label, group=group.number)]
        for measure, part in product(found, PARTS):
            value = group.estimate(f"probe_{part}:{measure}", first)
            unit: Unit = "change" if part == "change" else "accuracy"
            line.append(score_cell(value, unit, "", group.number))
        body.append(line)
    return Table(f"{section.title}: what the features still tell of earlier tasks", heads, body)
