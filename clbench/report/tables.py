"""The tables as files: CSV with everything, Markdown and LaTeX as the page shows them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

from clbench.record.baselines import BASELINES
from clbench.record.record import SCENARIOS
from clbench.report import kept
from clbench.report.boards import kept_tables, leaderboard, pooled_table, tuned_table
from clbench.report.cells import Table, seeds
from clbench.report.comparison import Compared
from clbench.report.confounds import MARK
from clbench.report.differences import differences
from clbench.report.formats import csv_text, latex_table, markdown_table
from clbench.report.kept_by import KEPT, kept_by_tables, measures
from clbench.report.metrics import METRICS
from clbench.report.orders import orders_tables
from clbench.report.pooled import pooled
from clbench.report.representation import PARTS, asked, representation_table
from clbench.report.section import Section
from clbench.report.statistics import Difference, Mean
from clbench.report.verdicts import seen

NOTE = (
    "Accuracies in %, mean ± standard deviation over seeds. Best in bold; ≈: within noise of the "
    "best (95 % t interval of the difference of equal seeds contains 0; the multitask bound does "
    "not compete). Δ: paired difference in points, with its t interval from two pairs on; ≈ there: "
    "within noise, its p value corrected by Holm over the methods that it tests. "
    f"{MARK}: more differs than the method, so that Δ is no test of it; what does stands in the "
    "table of differences. A mean of fewer than three seeds has no interval."
)


def rows(comparison: Compared) -> Iterator[dict[str, Any]]:
    """One flat row for each section, scenario and method; accuracies are fractions in 0…1."""
    for section in comparison.sections:
        for scenario in section.scenarios:
            for row in section.leaderboard(scenario):
                flat: dict[str, Any] = {
                    "stream": section.title,
                    "scenario": scenario,
                    "method": row.group.label,
                    "seeds": len(row.group.finished),
                }
                for metric in METRICS:
                    found = row.scores[metric]
                    flat[metric] = found.mean if found else None
                    flat[f"{metric}_std"] = found.std if found else None
                    flat |= _interval(metric, found)
                    if METRICS[metric].contest:
                        flat[f"{metric}_mark"] = row.marks.get(metric, "")
                for baseline in dict.fromkeys((*BASELINES, section.reference)):
                    nearest = section.baseline(baseline, row.group)
                    flat[f"nearest_{baseline}"] = nearest.label if nearest else ""
                    besides = "; ".join(c.words for c in row.besides[baseline])
                    flat[f"besides_{baseline}"] = besides
                    for metric in METRICS:
                        if METRICS[metric].unit not in ("accuracy", "change"):
                            continue
                        gap = row.versus[baseline].get(metric)
                        name = f"{metric}_minus_{baseline}"
                        flat[f"{name}_mean"] = gap.mean if gap else None
                        flat |= _interval(name, gap)
                        flat[f"{name}_paired"] = gap.paired if gap else None
                        flat[f"{name}_pairs"] = gap.n if gap else None
                        flat[f"{name}_could_see"] = seen(gap)
                        flat[f"{name}_p_holm"] = row.p[baseline].get(metric)
                alone, gap = section.alone(row.group), row.intransigence
                flat["intransigence_from"] = alone.label if alone and gap else ""
                flat["intransigence_mean"] = gap.mean if gap else None
                flat |= _interval("intransigence", gap)
                flat["runs"] = " ".join(run.folder.name for run in row.group.finished)
                yield flat


def _interval(name: str, found: Mean | Difference | None) -> dict[str, Any]:
    """The columns of an interval: its ends, and how it was made or why there is none."""
    kinds = {"bootstrap": "95 % bootstrap", "t": "95 % t"}
    told = kinds.get(found.interval, f"none: {seeds(found.n)}") if found else None
    ends = {f"{name}_{p}": getattr(found, p) if found else None for p in ("low", "high")}
    return ends | {f"{name}_interval": told}


def leaderboard_csv(comparison: Compared) -> str:
    """All statistics of all methods."""
    return csv_text(rows(comparison))


def runs_csv(comparison: Compared) -> str:
    """All scores of every run, unfinished ones included."""

    def lines() -> Iterator[dict[str, Any]]:
        for section in comparison.sections:
            for group in section.groups:
                for run in group.runs:
                    about = run.record.run
                    line: dict[str, Any] = {
                        "run": run.folder.name,
                        "stream": section.title,
                        "method": group.label,
                        "seed": run.seed,
                        "finished": run.finished,
                        "environment": run.environment_hash,
                        "weights_sha256": about.weights.sha256,
                        "split_manifest_sha256": about.split_manifest_sha256,
                    }
                    for scenario in SCENARIOS:
                        for metric in METRICS:
                            line[f"{scenario}/{metric}"] = run.score(metric, scenario)
                    yield line

    return csv_text(lines())


def kept_csv(comparison: Compared) -> str:
    """Retention, target and average, a row for each stream, backbone, scenario and method."""

    def parts(name: str, found: Mean | Difference | None) -> dict[str, Any]:
        return {name: found.mean if found else None, **_interval(name, found)}

    def lines() -> Iterator[dict[str, Any]]:
        for section in comparison.sections:
            for scenario in section.scenarios:
                for line in kept.kept_lines(section, scenario):
                    yield {
                        "stream": section.stream,
                        "tasks": len(section.tasks),
                        "backbone": section.backbone,
                        "scenario": scenario,
                        "method": line.label,
                        **parts("retention", line.retention),
                        **parts("retention_minus_pretrained", line.change),
                        **parts("target", line.target),
                        **parts("target_minus_sequential", line.gap),
                        "besides_sequential": line.besides,
                        **parts("average", line.average),
                    }

    return csv_text(lines())


def measures_csv(comparison: Compared) -> str:
    """What every measure says is kept, a row for each method and measure."""
    return _by_measure(comparison, measures, {what: what for what in KEPT})


def representation_csv(comparison: Compared) -> str:
    """What the features still tell of earlier tasks, a row for each method and measure."""
    return _by_measure(comparison, asked, {part: f"probe_{part}" for part in PARTS})


def _by_measure(
    comparison: Compared, names: Callable[[Section], list[str]], parts: Mapping[str, str]
) -> str:
    """A row for each method and measure that it has; ``parts``: columns to kinds of score."""

    def lines() -> Iterator[dict[str, Any]]:
        for section in comparison.sections:
            scenario = next(iter(section.scenarios))
            for group, measure in product(section.groups, names(section)):
                found = {
                    part: group.estimate(f"{kind}:{measure}", scenario)
                    for part, kind in parts.items()
                }
                if not any(found.values()):
                    continue
                line: dict[str, Any] = {
                    "stream": section.title,
                    "method": group.label,
                    "seeds": len(group.finished),
                    "measure": measure,
                }
                for what, value in found.items():
                    line[what] = value.mean if value else None
                    line |= _interval(what, value)
                yield line

    return csv_text(lines())


def pooled_csv(comparison: Compared) -> str:
    """The leaderboard over all streams."""

    def lines() -> Iterator[dict[str, Any]]:
        for scenario in comparison.scenarios:
            for row in pooled(comparison, scenario):
                flat: dict[str, Any] = {
                    "scenario": scenario,
                    "method": row.label,
                    "streams": len(row.groups),
                    "mark": row.mark,
                    "besides_sequential": "; ".join(c.words for c in row.besides),
                }
                scores: dict[str, Mean | Difference | None] = {
                    "rank": row.rank,
                    "op_minus_sequential": row.gap,
                    **row.scores,
                }
                for name, found in scores.items():
                    flat[name] = found.mean if found else None
                    flat |= _interval(name, found)
                yield flat

    return csv_text(lines())


def tuning_csv(comparison: Compared) -> str:
    """All tries of all methods, the chosen ones marked."""
    return csv_text(
        {
            "cell": cell.name,
            "method": cell.method,
            "try": one.number,
            "settings": json.dumps(dict(one.settings)),
            "validation": one.value,
            "state": one.state,
            "reason": one.reason,
            "chosen": one.number == cell.chosen,
            "scenario": tuning.scenario,
            "tasks": tuning.tasks,
            "seed": tuning.seed,
            "folder": one.folder,
        }
        for tuning in comparison.tunings
        for cell in tuning.cells
        for one in cell.tries
    )


def markdown(comparison: Compared) -> str:
    """The tables as Markdown."""
    parts = [NOTE]
    for table in _all(comparison):
        parts += [markdown_table(*table.plain), *([table.note] if table.note else [])]
    return "\n\n".join(parts) + "\n"


def latex(comparison: Compared) -> str:
    """The tables as LaTeX; they need the package booktabs."""
    parts = ["% \\usepackage{booktabs}\n% " + NOTE]
    for table in _all(comparison):
        note = f"% {table.note}\n" if table.note else ""
        parts.append(note + latex_table(*table.plain))
    return "\n\n".join(parts) + "\n"


def _all(comparison: Compared) -> Iterator[Table]:
    """All streams, class orders, leaderboards, what is kept of pretraining, and tuned settings."""
    for scenario in comparison.scenarios:
        table = pooled_table(comparison, scenario)
        if table:
            yield table
    yield from orders_tables(comparison)
    for section in comparison.sections:
        for scenario in section.scenarios:
            yield leaderboard(section, scenario)
            if table := differences(section, scenario):
                yield table
    for scenario in SCENARIOS:
        yield from kept_tables(comparison, scenario)
    for section in comparison.sections:
        yield from kept_by_tables(section)
    yield from filter(None, map(representation_table, comparison.sections))
    yield from map(tuned_table, comparison.tunings)
