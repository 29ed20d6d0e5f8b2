"""What the report's tables hold, whatever they are written as: HTML, Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose

from clbench.record.baselines import BOUND, PLAIN
from clbench.record.record import Scenario
from clbench.report import kept
from clbench.report.cells import (
    NOTHING,
    Entry,
    Head,
    Table,
    gap_cell,
    rank_cell,
    score_cell,
    single,
    versus,
)
from clbench.report.comparison import Compared
from clbench.report.metrics import METRICS, show
from clbench.report.pooled import POOLED, PooledRow, pooled
from clbench.report.section import Section, Standing
from clbench.report.tuning import Tuned

#: Columns of a leaderboard: metric, and the baseline it is compared with; in the place of the
#: plain one, the report's reference.
COLUMNS: tuple[tuple[str, str | None], ...] = (
    ("overall_performance", None),
    ("overall_performance", PLAIN),
    ("overall_performance", BOUND),
    ("overall_performance_micro", None),
    ("average_incremental_accuracy", None),
    ("average_incremental_accuracy", PLAIN),
    ("average_incremental_accuracy_micro", None),
    ("backward_transfer", None),
    ("forgetting", None),
    ("learning_accuracy", None),
    ("forward_transfer", None),
    ("mtil_transfer", None),
    ("mtil_average", None),
    ("min_accuracy", None),
    ("worst_case_accuracy", None),
    ("retention", None),
    ("retention", PLAIN),
    ("probe_change:ridge", None),
    ("probe_change:knn", None),
    ("average", None),
    ("calibration_error", None),
    ("nll", None),
    ("retention:calibration_error", None),
    ("retention:nll", None),
    ("geometric_mean", None),
    ("stored_bytes", None),
    ("weight_copies", None),
    ("extra_passes_per_step", None),
    ("flops", None),
    ("seconds", None),
)

INTRANSIGENCE = (
    "accuracy right after learning of networks trained on each task alone, minus the method’s, in "
    "points; positive: too stiff to learn"
)


def leaderboard(section: Section, scenario: Scenario) -> Table:
    """All methods of a section; columns that no method fills are left out."""
    rows = section.leaderboard(scenario)
    columns = ((m, section.reference if name == PLAIN else name) for m, name in COLUMNS)
    shown = [
        (metric, baseline)
        for metric, baseline in dict.fromkeys(columns)
        if any(_filled(row, metric, baseline) for row in rows) and not repeats(rows, metric)
    ]
    stiff = any(row.intransigence for row in rows)
    heads = [Head("Method"), Head("Seeds", "runs that finished", 1)]
    for metric, baseline in shown:
        about = METRICS[metric]
        if baseline:
            text = f"paired difference from {baseline}: {about.about}"
            heads.append(Head(f"Δ{about.label} {baseline}", text, about.better))
        else:
            heads.append(
                Head(about.label, about.about, about.better, metric == "overall_performance")
            )
    heads += [Head("Intransigence", INTRANSIGENCE, -1)] * stiff
    body = []
    for row in rows:
        number = row.group.number
        line = [
            Entry(row.group.label, row.group.label, group=number),
            Entry(str(len(row.group.finished)), len(row.group.finished)),
        ]
        for metric, baseline in shown:
            unit = METRICS[metric].unit
            if baseline:
                line.append(versus(row, baseline, metric, number))
            else:
                line.append(score_cell(row.scores[metric], unit, row.marks.get(metric, ""), number))
        body.append(line + [_stiffness(section, row)] * stiff)
    notes = [_compared(section, name) for name in section.baselines]
    notes += [_told_alone(section)] * stiff
    notes.append(_told_aside(section))
    note = " ".join(filter(None, notes))
    return Table(f"{section.title}, {section.scenarios[scenario]}", heads, body, note)


def _stiffness(section: Section, row: Standing) -> Entry:
    """Intransigence, with what makes it none."""
    gap, other = row.intransigence, section.alone(row.group)
    besides = other is not None and bool(section.confounds(row.group, other))
    return gap_cell(gap, "accuracy", row.group.number, bool(gap and gap.within_noise), besides)


def _told_alone(section: Section) -> str:
    """What intransigence is measured from."""
    found = dict.fromkeys(o.label for g in section.groups if (o := section.alone(g)))
    return (
        f"Intransigence is measured from {', '.join(found)}: plain fine-tuning of every task "
        "alone, from the pretrained weights."
    )


def _told_aside(section: Section) -> str:
    """Which methods contend with no other; empty if there are none."""
    found = [group.label for group in section.groups if group.aside]
    told = (
        f"{', '.join(found)}: a network for each task alone, not ranked with networks for all "
        "tasks, and without an accuracy among the classes of all."
    )
    return told * bool(found)


def _compared(section: Section, name: str) -> str:
    """Which of several baselines a method is compared with, and how these differ; empty if there
    is only one."""
    bases = section.bases(name)
    if len(bases) < 2:
        return ""
    compared = section.compared(name)
    pairs = (f"{base} for {', '.join(of)}" for base, of in compared.items())
    first = max(bases, key=lambda group: len(compared.get(group.label, ())))
    apart = (
        f"{group.label} has {', '.join(words) or 'nothing else that counts'}"
        for group in bases
        if group is not first
        for words in [[c.words for c in section.confounds(group, first)]]
    )
    return (
        f"There are several runs of {name}; a method is compared with those that differ least "
        f"besides the method: {'; '.join(pairs) or 'none'}. Against {first.label}, "
        f"{'; '.join(apart)}."
    )


def kept_table(
    sections: Sequence[Section], scenario: Scenario, backbone: bool = False
) -> Table | None:
    """FLOW's table: retention, target, average; None if no run measured retention.

    Args:
        sections: of one stream; a block of rows for each backbone.
        scenario: which accuracies to read.
        backbone: whether a column names the backbone.
    """
    blocks = [(s, found) for s in sections if (found := kept.kept_lines(s, scenario))]
    if not blocks:
        return None
    heads = [
        *([Head("Backbone")] if backbone else []),
        Head("Method"),
        Head("Retention", METRICS["retention"].about, 1),
        Head("Δ pretrained", "retention minus that of the pretrained model, in points", 1),
        Head("Target", METRICS["overall_performance"].about, 1),
        Head("Δ standard FT", "target minus that of sequential fine-tuning, in points", 1),
        Head("Average", METRICS["average"].about, 1),
    ]
    body = []
    for section, lines in blocks:
        for line in lines:
            row = line.row
            number = row.group.number if row else None
            marks = row.marks if row else {}
            label = "sequential (standard FT)" if line.label == PLAIN else line.label
            body.append(
                [
                    *([Entry(section.backbone, section.backbone)] if backbone else []),
                    Entry(label, label, group=number),
                    score_cell(line.retention, "accuracy", marks.get("retention", ""), number)
                    if row or (line.retention and line.retention.n > 1)
                    else single(line.retention, "accuracy"),
                    score_cell(line.change, "change", "", number)
                    if row
                    else single(line.change, "change"),
                    score_cell(
                        line.target, "accuracy", marks.get("overall_performance", ""), number
                    ),
                    Entry(show(0.0, "accuracy"), 0.0, group=number)
                    if row and row.group.base == PLAIN
                    else versus(row, PLAIN, "overall_performance", number)
                    if row
                    else Entry(NOTHING),
                    score_cell(line.average, "accuracy", marks.get("average", ""), number),
                ]
            )
    stream, count = sections[0].stream, len(sections[0].tasks)
    name = f"{stream}, {count} task{'s' * (count != 1)}" if backbone else sections[0].title
    title = f"{name}, {sections[0].scenarios[scenario]}: retention and target"
    notes = dict.fromkeys(_compared(section, PLAIN) for section, _ in blocks)
    return Table(title, heads, body, " ".join(notes).strip())


def kept_tables(comparison: Compared, scenario: Scenario) -> list[Table]:
    """FLOW's table of every stream, with a block for each backbone."""
    streams: dict[tuple[str, ...], list[Section]] = {}
    for section in comparison.sections:
        key = (section.stream, *section.tasks, *section.scenarios)
        streams.setdefault(key, []).append(section)
    made = (
        kept_table(sections, scenario, backbone=True)
        for sections in streams.values()
        if scenario in sections[0].scenarios
    )
    return [table for table in made if table]


def tuned_table(tuning: Tuned) -> Table:
    """The settings that were taken; the CSV and the page have every try."""
    heads = [Head(text) for text in ("Method", "Tries", "Chosen", "Validation accuracy")]
    body = []
    for cell in tuning.cells:
        best = cell.best
        taken = [best.words, show(best.value, "accuracy")] if best else ["nothing", "–"]
        body.append([Entry(text) for text in (cell.name, str(len(cell.tries)), *taken)])
    return Table("Tuning", heads, body, tuning.sentence)


def pooled_table(comparison: Compared, scenario: Scenario) -> Table | None:
    """The leaderboard over all streams; None if they share fewer than two methods."""
    rows = pooled(comparison, scenario)
    if not rows:
        return None
    shown = [m for m in POOLED if any(row.scores[m] for row in rows) and not repeats(rows, m)]
    first, *rest = shown
    heads = [
        Head("Method"),
        Head("Mean rank", "rank by OP, 1 the best, mean over streams", -1),
        Head(METRICS[first].label, METRICS[first].about, 1, True),
        Head(
            f"ΔOP {comparison.reference}",
            f"paired difference from {comparison.reference}, mean over streams",
            1,
        ),
        *(Head(METRICS[m].label, METRICS[m].about, METRICS[m].better) for m in rest),
    ]
    body = [
        [
            Entry(row.label, row.label, group=row.groups[0].number),
            rank_cell(row.rank),
            score_cell(row.scores[first], METRICS[first].unit, row.mark),
            gap_cell(row.gap, "change", None, row.noise, bool(row.besides)),
            *(score_cell(row.scores[m], METRICS[m].unit) for m in rest),
        ]
        for row in rows
    ]
    return Table(
        f"All {len(comparison.sections)} streams, {comparison.scenarios[scenario]}", heads, body
    )


def repeats(rows: Sequence[Standing] | Sequence[PooledRow], metric: str) -> bool:
    """Whether scores over images are those over tasks: where all tasks have as many images."""
    usual = metric.removesuffix("_micro")
    pairs = ((row.scores[metric], row.scores[usual]) for row in rows)
    return usual != metric and all(a is None or (b and isclose(a.mean, b.mean)) for a, b in pairs)


def _filled(row: Standing, metric: str, baseline: str | None) -> bool:
    return bool(row.versus[baseline].get(metric) if baseline else row.scores[metric])
