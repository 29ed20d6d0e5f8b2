"""Parameters that were swept: over runs that differ in one setting, or after training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from clbench.record.baselines import PLAIN
from clbench.record.record import Scenario

if TYPE_CHECKING:
    from clbench.report.gather import Run
    from clbench.report.group import Group
    from clbench.report.section import Section

#: What a sweep trades against each other.
SCORES = ("overall_performance", "backward_transfer", "retention")


@dataclass(frozen=True)
class Point:
    """One value of the parameter.

    Attributes:
        text: the value as a label shows it.
        scores: by name in ``SCORES``, means over seeds; None where not measured.
    """

    text: str
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Curve:
    """A method along one parameter.

    Attributes:
        label: the method and the parameter.
        points: by value.
        chosen: what validation data chose; None if nothing was chosen.
        oracle: the best on test data, which nobody could have chosen; None if not known.
        groups: numbers of the groups that are its points; empty if it was swept after training.
    """

    label: str
    points: tuple[Point, ...]
    chosen: Point | None = None
    oracle: Point | None = None
    groups: tuple[int, ...] = ()


def sweeps(section: Section, scenario: Scenario) -> list[Curve]:
    """All sweeps of a section.

    Args:
        section: its methods.
        scenario: which accuracies to show.
    """
    groups = [group for group in section.groups if group.finished]
    return [*_over_runs(groups, scenario), *_after_training(groups, scenario)]


def _over_runs(groups: Sequence[Group], scenario: Scenario) -> Iterable[Curve]:
    """Groups with the same methods that differ in one number only."""
    families: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        families["+".join(group.runs[0].methods) or PLAIN].append(group)
    for methods, members in families.items():
        settings = {g.number: g.runs[0].settings for g in members}
        lines: list[tuple[str, list[Group], dict[str, Any]]] = []
        for key in sorted({key for s in settings.values() for key in s}):
            values = {str(s.get(key)) for s in settings.values()}
            if len(values) < 2:
                continue
            same: dict[Any, list[Group]] = defaultdict(list)
            for group in members:
                ours = settings[group.number]
                if _number(ours.get(key)):
                    others = tuple(sorted((k, str(v)) for k, v in ours.items() if k != key))
                    same[others].append(group)
            for others, found in same.items():
                if len(found) > 1:
                    numbers = {g.number: float(settings[g.number][key]) for g in found}
                    found.sort(key=lambda g, numbers=numbers: numbers[g.number])  # type: ignore[misc]
                    lines.append((key, found, dict(others)))
        for key, found, rest in lines:
            # Another line along the same parameter: say what sets them apart.
            mates = [r for k, _, r in lines if k == key]
            apart = [k for k in rest if len({str(r.get(k)) for r in mates}) > 1]
            note = ", ".join(f"{_short(k)}={rest[k]}" for k in apart)
            points = tuple(
                Point(
                    f"{settings[g.number][key]:g}",
                    {s: e.mean if (e := g.estimate(s, scenario)) else None for s in SCORES},
                )
                for g in found
            )
            label = f"{methods}, {_short(key)}" + (f" ({note})" if note else "")
            yield Curve(label, points, groups=tuple(g.number for g in found))


def _after_training(groups: Sequence[Group], scenario: Scenario) -> Iterable[Curve]:
    """Sweeps that one trained run allows, such as the weight of an average; over its seeds."""
    for group in groups:
        files: dict[str, list[tuple[Run, dict[str, Any]]]] = defaultdict(list)
        for run in group.finished:
            for name, values in run.sweeps.items():
                files[name].append((run, values))
        for name, found in files.items():
            grids = [[row["value"] for row in values["rows"]] for _, values in found]
            alike = [v for (_, v), values in zip(found, grids, strict=True) if values == grids[0]]
            points = tuple(
                _mean([values["rows"][i] for values in alike], scenario)
                for i in range(len(grids[0]))
            )
            parameter = str(alike[0].get("parameter") or name.removeprefix("sweep-"))
            anchor = ", θ_o" if alike[0].get("anchor") == "previous" else ""
            yield Curve(
                f"{group.label}, {_short(parameter)}{anchor} after training",
                points,
                _picked(alike, "chosen", scenario),
                _best(alike, scenario),
            )


def _best(files: Sequence[dict[str, Any]], scenario: Scenario) -> Point | None:
    """The row of each seed with the best overall performance on test data, over the seeds."""
    if any(values.get("oracle") is None for values in files):
        return None
    ops = []
    for values in files:
        found = (_mean([row], scenario).scores["overall_performance"] for row in values["rows"])
        line = [op for op in found if op is not None]
        if len(line) < len(values["rows"]):
            return _picked(files, "oracle", scenario)
        ops.append(line)
    # Which value is best depends on the scenario, and the file names one only.
    rows = [v["rows"][line.index(max(line))] for v, line in zip(files, ops, strict=True)]
    return _mean(rows, scenario)


def _picked(files: Sequence[dict[str, Any]], key: str, scenario: Scenario) -> Point | None:
    """The row that each seed picked, over the seeds; None if a seed has none."""
    rows = []
    for values in files:
        index = values.get(key)
        if isinstance(index, Mapping):
            index = index.get(scenario)
        if not isinstance(index, int) or not 0 <= index < len(values["rows"]):
            return None
        rows.append(values["rows"][index])
    return _mean(rows, scenario)


def _mean(rows: Sequence[Mapping[str, Any]], scenario: Scenario) -> Point:
    scores: dict[str, float | None] = {}
    for name in SCORES:
        found = [row.get(name) for row in rows]
        numbers = [x.get(scenario) if isinstance(x, Mapping) else x for x in found]
        known = [float(x) for x in numbers if _number(x)]
        scores[name] = float(np.mean(known)) if len(known) == len(rows) else None
    values = [row["value"] for row in rows]
    texts = dict.fromkeys(f"{v:g}" if _number(v) else str(v) for v in values)
    return Point(", ".join(texts), scores)


def _number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(key: str) -> str:
    return key.rsplit(".", 1)[-1]
