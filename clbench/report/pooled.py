"""All streams together: methods that every section has, by their mean rank and mean scores.

[0] Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice*, 2021
    (stratified bootstrap over streams and seeds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from clbench.record.record import Scenario
from clbench.report.comparison import Compared
from clbench.report.confounds import Confound
from clbench.report.group import Group
from clbench.report.metrics import METRICS, bounds
from clbench.report.statistics import (
    Difference,
    Mean,
    mean_difference,
    mean_of,
    mean_ranks,
)
from clbench.report.verdicts import ALPHA, corrected

#: What is shown of all streams; costs of different streams do not add up.
POOLED = tuple(name for name, about in METRICS.items() if about.unit in ("accuracy", "change"))


@dataclass(frozen=True)
class PooledRow:
    """A method over all streams.

    Attributes:
        label: the method, named alike in all sections.
        groups: its runs on each stream.
        rank: mean over streams of its rank by OP, 1 the best; None for no rivals: the multitask
            bound, and networks for each task alone.
        scores: by metric, mean over streams.
        gap: paired difference of OP from the reference.
        mark: ``best`` overall performance, ``tie`` (within noise of it) or nothing.
        besides: what differs from the reference besides the method on any stream.
        noise: whether the gap is within noise, corrected by Holm if it tests the method.
    """

    label: str
    groups: tuple[Group, ...]
    rank: Mean | None
    scores: Mapping[str, Mean | None]
    gap: Difference | None
    mark: str
    besides: tuple[Confound, ...] = ()
    noise: bool = False


def shared(comparison: Compared) -> list[str]:
    """Methods that have finished runs on every stream; none if there is only one stream.

    None either where a stream is there in two versions, which no table mixes.
    """
    names = {
        section.stream: section.groups[0].runs[0].record.run.stream
        for section in comparison.sections
    }
    if len(comparison.sections) < 2 or len(set(names.values())) < len(names):
        return []
    found = [[g.label for g in s.groups if g.finished] for s in comparison.sections]
    return [label for label in found[0] if all(label in labels for labels in found[1:])]


def pooled(comparison: Compared, scenario: Scenario) -> list[PooledRow]:
    """The leaderboard over all streams, the best mean overall performance first.

    Every stream counts alike. With five seeds or more, intervals of scores and ranks draw the seeds
    of each stream anew [0], the same seeds for all methods; with fewer, see
    :func:`clbench.report.statistics.mean_of`. Differences are paired.

    Args:
        comparison: of several streams or backbones.
        scenario: which accuracies to read.

    Returns:
        One row for each method that all streams have; empty if they share fewer than two.
    """
    key = "pooled", scenario
    if key not in comparison.memo:
        comparison.memo[key] = _pooled(comparison, scenario)
    rows: list[PooledRow] = comparison.memo[key]
    return rows


def _pooled(comparison: Compared, scenario: Scenario) -> list[PooledRow]:
    labels = shared(comparison)
    groups = {
        label: tuple(next(g for g in s.groups if g.label == label) for s in comparison.sections)
        for label in labels
    }
    values = {label: _by_stream(g, "overall_performance", scenario) for label, g in groups.items()}
    values = {label: v for label, v in values.items() if all(v)}
    if len(values) < 2:
        return []
    rivals = {label: v for label, v in values.items() if all(g.rival for g in groups[label])}
    ranks = dict(zip(rivals, mean_ranks([_lists(v) for v in rivals.values()]), strict=True))
    plain = [x for x in values if all(g.called(comparison.reference) for g in groups[x])]
    scores = {
        label: {
            m: mean_of(*_lists(_by_stream(groups[label], m, scenario)), within=bounds(m))
            for m in POOLED
        }
        for label in values
    }
    means = {label: e.mean for label in rivals if (e := scores[label]["overall_performance"])}
    best = max(means, key=lambda label: means[label]) if len(means) > 1 else None
    rows = []
    for label in values:
        mark = "best" if label == best else ""
        if best is not None and label in rivals and label != best:
            away = _gap(values[label], values[best])
            mark = "tie" if away and away.within_noise else ""
        gap, besides = None, tuple[Confound, ...]()
        if plain and label not in plain:
            apart = {x: _besides(comparison, groups[label], groups[x]) for x in plain}
            nearest = min(plain, key=lambda x: len(apart[x]))
            gap, besides = _gap(values[label], values[nearest]), apart[nearest]
        rows.append(
            PooledRow(label, groups[label], ranks.get(label), scores[label], gap, mark, besides)
        )

    def place(row: PooledRow) -> tuple[float, str]:
        op = row.scores["overall_performance"]
        return (-op.mean if op else 1.0, row.label)

    return sorted(_tested(rows), key=place)


def _tested(rows: list[PooledRow]) -> list[PooledRow]:
    """The rows with what is within noise."""
    p = corrected([None if row.besides else row.gap for row in rows])
    noise = [bool(row.gap and row.gap.within_noise) for row in rows]
    noise = [n or (x is not None and x >= ALPHA) for n, x in zip(noise, p, strict=True)]
    return [replace(row, noise=n) for row, n in zip(rows, noise, strict=True)]


def _besides(
    comparison: Compared, ours: tuple[Group, ...], theirs: tuple[Group, ...]
) -> tuple[Confound, ...]:
    """What differs between two methods besides them on any stream."""
    parts = zip(comparison.sections, ours, theirs, strict=True)
    return tuple(dict.fromkeys(c for s, a, b in parts for c in s.confounds(a, b)))


def _by_stream(
    groups: tuple[Group, ...], metric: str, scenario: Scenario
) -> list[dict[int, float]]:
    return [group.by_seed(metric, scenario) for group in groups]


def _lists(values: list[dict[int, float]]) -> list[list[float]]:
    return [list(seeds.values()) for seeds in values]


def _gap(ours: list[dict[int, float]], theirs: list[dict[int, float]]) -> Difference | None:
    """Mean over streams of the differences of equal seeds; None if a stream has no equal seeds."""
    return mean_difference(
        *({s: a[s] - b[s] for s in a if s in b} for a, b in zip(ours, theirs, strict=True))
    )
