"""What is kept of what a network knew, by every measure of it, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.record.record import Scenario
from clbench.report.cells import NOTHING, Entry, Head, Table, score_cell, single
from clbench.report.group import Group
from clbench.report.section import Section
from clbench.report.statistics import SAME, Mean

NOTE = (
    "By every measure: accuracy in % (cka: likeness to the pretrained features) after the last "
    "task, and kept: that ÷ what it was before the first. head: with the original head; knn, "
    "ridge, ncm: of classifiers made of the features anew; zero_shot: by texts. Sets of "
    "images of the user’s have tables of their own."
)
#: Columns of a CSV file.
KEPT = ("before", "after", "change", "kept")


def measures(section: Section) -> list[str]:
    """What finished runs of a section measured beside, or without, the original head; none if
    nothing. The head, where it was, comes first."""
    runs = [run for group in section.groups for run in group.finished]
    found = dict.fromkeys(measure for run in runs for measure in run.courses)
    return [*found] if found.keys() - {"head"} else []


def kept_by_tables(section: Section) -> list[Table]:
    """Every measure after the last task, and kept: a table for each set of images; none if there
    is only the head."""
    by_set: dict[str, list[str]] = {}
    for measure in measures(section):
        by_set.setdefault(measure.rpartition("/")[0], []).append(measure)
    return [_table(section, name, found) for name, found in by_set.items()]


def _table(section: Section, name: str, found: Sequence[str]) -> Table:
    """The table of a set of the user's, or, without a name, of what networks are pretrained for."""
    heads = [Head("Method")]
    for measure in found:
        heads += [
            Head(measure.rpartition("/")[2], f"{measure} after the last task", 1),
            Head("kept", f"{measure}, after ÷ before, in %", 1),
        ]
    first: Scenario = next(iter(section.scenarios))
    groups = [row.group for row in section.leaderboard(first) if row.group.finished]
    body = [[Entry("pretrained"), *_before(groups, found, first)]]
    for group in groups:
        line = [Entry(group.label, group.label, group=group.number)]
        for measure in found:
            for what in ("after", "kept"):
                value = group.estimate(f"{what}:{measure}", first)
                line.append(score_cell(value, "accuracy", "", group.number))
        body.append(line)
    on = f" on {name}" if name else ""
    return Table(f"{section.title}: kept by every measure{on}", heads, body)


def _before(groups: Sequence[Group], found: Sequence[str], scenario: Scenario) -> list[Entry]:
    """The pretrained network's line; with weights of each seed's own, over the seeds."""
    line = []
    for measure in found:
        estimates = (group.estimate(f"before:{measure}", scenario) for group in groups)
        value: Mean | None = next(filter(None, estimates), None)
        same = value is not None and (value.std or 0) < SAME
        line.append(single(value, "accuracy") if same else score_cell(value, "accuracy"))
        line.append(Entry("100.0", 1.0) if value else Entry(NOTHING))
    return line
