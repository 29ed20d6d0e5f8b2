"""Runs → methods over seeds → leaderboards, differences, ties and warnings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.errors import ClbenchError
from clbench.record import SCENARIOS, Scenario
from clbench.report.checks import warnings_of
from clbench.report.gather import Run, gather
from clbench.report.metrics import METRICS
from clbench.report.statistics import Difference, Estimate, difference, estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        label: the method's name in the report, unique within its section.
        runs: by seed; unfinished ones are listed but do not count.
        number: unique within the report.
    """

    label: str
    runs: tuple[Run, ...]
    number: int

    @property
    def finished(self) -> list[Run]:
        """The runs that count."""
        return [run for run in self.runs if run.finished]

    def is_method(self, name: str) -> bool:
        """Whether the runs use exactly this method (``sequential``: none)."""
        return (self.runs[0].methods or ["sequential"]) == [name]

    def by_seed(self, metric: str, scenario: Scenario) -> dict[int, float]:
        """The score of each finished seed that has one."""
        found = {run.seed: run.score(metric, scenario) for run in self.finished}
        return {seed: value for seed, value in found.items() if value is not None}

    def estimate(self, metric: str, scenario: Scenario) -> Estimate | None:
        """The score over the seeds; None if no run has it."""
        return estimate(list(self.by_seed(metric, scenario).values()))


@dataclass(frozen=True)
class Row:
    """A method on a leaderboard.

    Attributes:
        group: its runs.
        scores: by metric; None where there is none.
        marks: by metric: ``best``, ``tie`` (within noise of the best) or nothing.
        versus: by baseline (``sequential``, ``multitask``) and metric.
    """

    group: Group
    scores: Mapping[str, Estimate | None]
    marks: Mapping[str, str]
    versus: Mapping[str, Mapping[str, Difference | None]]


@dataclass(frozen=True)
class Section:
    """Methods that learned the same stream with the same backbone, so that they compare.

    Attributes:
        title: stream and backbone.
        groups: the methods.
        tasks: names of the stream's tasks.
        warnings: reasons not to trust the numbers, each a sentence.
    """

    title: str
    groups: tuple[Group, ...]
    tasks: tuple[str, ...]
    warnings: tuple[str, ...]

    def leaderboard(self, scenario: Scenario) -> list[Row]:
        """All methods, the best overall performance first."""
        return self._boards[scenario]

    @cached_property
    def _boards(self) -> dict[Scenario, list[Row]]:
        return {scenario: self._board(scenario) for scenario in SCENARIOS}

    def _board(self, scenario: Scenario) -> list[Row]:
        scores = {
            g.number: {metric: g.estimate(metric, scenario) for metric in METRICS}
            for g in self.groups
        }
        marks: dict[int, dict[str, str]] = defaultdict(dict)
        for metric in (name for name, about in METRICS.items() if about.contest):
            for number, mark in self._contest(metric, scenario).items():
                marks[number][metric] = mark
        rows = [
            Row(
                group,
                scores[group.number],
                marks[group.number],
                {name: self._versus(group, name, scenario) for name in ("sequential", "multitask")},
            )
            for group in self.groups
        ]

        def place(row: Row) -> tuple[float, str]:
            op = row.scores["overall_performance"]
            return (-op.mean if op else 1.0, row.group.label)

        return sorted(rows, key=place)

    def baseline(self, name: str, of: Group) -> Group | None:
        """The baseline's group whose settings are nearest to a method's own."""
        found = [group for group in self.groups if group.is_method(name)]
        ours = of.runs[0].settings

        def apart(group: Group) -> int:
            theirs = group.runs[0].settings
            return sum(ours.get(key) != theirs.get(key) for key in ours.keys() | theirs)

        return min(found, key=apart, default=None)

    def _versus(self, group: Group, name: str, scenario: Scenario) -> dict[str, Difference | None]:
        other = self.baseline(name, group)
        if other is None or other is group:
            return {}
        return {
            metric: difference(group.by_seed(metric, scenario), other.by_seed(metric, scenario))
            for metric, about in METRICS.items()
            if about.unit in ("accuracy", "change")
        }

    def _contest(self, metric: str, scenario: Scenario) -> dict[int, str]:
        """The best and those within noise of it; the multitask bound does not compete."""
        values = {
            g.number: g.by_seed(metric, scenario)
            for g in self.groups
            if not g.is_method("multitask")
        }
        means = {n: sum(v.values()) / len(v) for n, v in values.items() if v}
        if len(means) < 2:
            return {}
        best = max(means, key=lambda number: METRICS[metric].better * means[number])
        marks = {best: "best"}
        for number in means.keys() - {best}:
            gap = difference(values[number], values[best])
            if gap and gap.within_noise:
                marks[number] = "tie"
        return marks


@dataclass(frozen=True)
class Comparison:
    """Methods over seeds, from records alone.

    Attributes:
        sections: one for each stream and backbone.
        warnings: about the whole; each section has its own.
        failures: runs of a suite that failed, with the reason.
    """

    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for s in self.sections for group in s.groups for run in group.runs]

    def table(self) -> Any:
        """The leaderboards as one pandas frame: a row for each section, scenario and method.

        Scores are fractions; ``<metric>`` is the mean, beside it ``_std``, ``_low`` and ``_high``.

        Raises:
            ClbenchError: if pandas is not installed.
        """
        from clbench.report.tables import rows

        try:
            import pandas as pd  # type: ignore[import-untyped,unused-ignore]
        except ImportError as error:
            raise ClbenchError("tables need pandas: pip install pandas") from error
        return pd.DataFrame(list(rows(self)))

    def figure(
        self, name: str, scenario: Scenario = "task_incremental", section: int = 0
    ) -> Figure:
        """One of the report's figures, for matplotlib.

        Args:
            name: ``frontier``, ``frontier_over_tasks``, ``over_tasks``, ``curves`` or ``matrices``.
            scenario: which accuracies to show.
            section: which stream and backbone.

        Raises:
            ClbenchError: if there is no such figure, or nothing to draw in it.
        """
        from clbench.report.plots import PLOTS

        if name not in PLOTS:
            raise ClbenchError(f"there is no figure {name!r}; there are {', '.join(PLOTS)}")
        made = PLOTS[name](self.sections[section], scenario)
        if made is None:
            raise ClbenchError(f"{name} has nothing to show: no finished run measured it")
        return made[0]


def compare(
    places: Iterable[Path | str],
    labels: Mapping[Path, str] | None = None,
    failures: Mapping[str, str] | None = None,
) -> Comparison:
    """Read runs and sort them by what may be compared.

    Args:
        places: run folders, or folders that hold some.
        labels: names of methods by run folder, where they are known better than from the record.
        failures: runs that failed, with the reason.

    Raises:
        ClbenchError: if there are no runs.
    """
    runs, problems = gather(places)
    named = {folder.resolve(): label for folder, label in (labels or {}).items()}
    sections: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        about = run.record.run
        sections[about["stream"], tuple(about["tasks"]), about["backbone"]].append(run)
    numbers = iter(range(len(runs)))
    made = [_section(key, found, named, numbers) for key, found in sections.items()]
    titles = Counter(section.title for section in made)
    if any(count > 1 for count in titles.values()):
        made = [
            Section(f"{s.title} ({_order(s.tasks)})", s.groups, s.tasks, s.warnings)
            if titles[s.title] > 1
            else s
            for s in made
        ]
    return Comparison(
        tuple(made), (*problems, *warnings_of(runs, everywhere=True)), dict(failures or {})
    )


def _section(
    key: tuple[str, tuple[str, ...], str],
    runs: Sequence[Run],
    named: Mapping[Path, str],
    numbers: Iterator[int],
) -> Section:
    stream, tasks, backbone = key
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[tuple(sorted((k, str(v)) for k, v in run.settings.items()))].append(run)
    found, twice = [], []
    for members in groups.values():
        by_seed: dict[int, Run] = {}
        for run in sorted(members, key=lambda run: (not run.finished, run.folder.name)):
            if run.seed in by_seed:
                twice.append((run, by_seed[run.seed]))
            else:
                by_seed[run.seed] = run
        found.append([by_seed[seed] for seed in sorted(by_seed)])
    texts = _labels(found, named)
    made = tuple(
        Group(text, tuple(members), next(numbers))
        for text, members in zip(texts, found, strict=True)
    )
    warnings = [
        f"{run.folder.name} repeats the recipe and the seed of {first.folder.name}; only the "
        "latter counts."
        for run, first in twice
    ]
    for group in made:
        if group.finished and len(group.finished) == 1:
            warnings.append(f"{group.label}: one seed only, so nothing tells noise from effect.")
    title = f"{stream}, {len(tasks)} task{'s' * (len(tasks) != 1)}, {backbone}"
    return Section(title, made, tasks, (*warnings_of(runs), *warnings))


def _labels(groups: Sequence[Sequence[Run]], named: Mapping[Path, str]) -> list[str]:
    """A name for each group: the suite's, the recipe's or the methods', made unique."""
    names = []
    for runs in groups:
        told = {named.get(run.folder) or run.name for run in runs}
        name = told.pop() if len(told) == 1 else None
        names.append(name or "+".join(runs[0].methods) or "sequential")
    for name in [name for name, count in Counter(names).items() if count > 1]:
        same = [i for i, other in enumerate(names) if other == name]
        settings = [groups[i][0].settings for i in same]
        keys = sorted({key for s in settings for key in s})
        differ = [k for k in keys if len({str(s.get(k, "–")) for s in settings}) > 1]
        for i, values in zip(same, settings, strict=True):
            shown = [f"{_key(k, groups[i][0])}={values.get(k, '–')}" for k in differ[:4]]
            names[i] = f"{name} ({', '.join(shown)})"
    for name in [name for name, count in Counter(names).items() if count > 1]:
        for number, i in enumerate([i for i, other in enumerate(names) if other == name], 1):
            names[i] = f"{name} #{number}"
    return names


def _key(key: str, run: Run) -> str:
    """A setting as a label shows it: that of the only method needs no method's name."""
    only = f"methods.{run.methods[0]}." if len(run.methods) == 1 else "methods."
    return key.removeprefix(only).removeprefix("methods.")


def _order(tasks: Sequence[str]) -> str:
    return " → ".join(tasks[:3]) + (" → …" if len(tasks) > 3 else "")
