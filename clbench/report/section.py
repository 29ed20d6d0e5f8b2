"""Methods on one stream with one backbone: runs → methods over seeds → leaderboards and ties."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from clbench.record.baselines import BASELINES, BOUND, PLAIN
from clbench.record.record import SCENARIOS, Scenario
from clbench.report.confounds import Confound, confounds
from clbench.report.group import Group
from clbench.report.metrics import METRICS
from clbench.report.statistics import Difference, Mean, difference
from clbench.report.verdicts import ALPHA, corrected


@dataclass(frozen=True)
class Standing:
    """A method on a leaderboard.

    Attributes:
        group: its runs.
        scores: by metric; None where there is none.
        marks: by metric: ``best``, ``tie`` (within noise of the best) or nothing.
        versus: by baseline (``sequential``, ``multitask``, the report's reference) and metric.
        besides: by baseline: what differs from it besides the method.
        p: by baseline and metric: p values of the differences that test the method, corrected by
            Holm over the methods of the leaderboard.
        intransigence: accuracy right after learning of networks trained on each task alone, minus
            the method's; None where there are no such runs, and class-incremental, as a network
            for one task chooses among its classes alone.
    """

    group: Group
    scores: Mapping[str, Mean | None]
    marks: Mapping[str, str]
    versus: Mapping[str, Mapping[str, Difference | None]]
    besides: Mapping[str, tuple[Confound, ...]]
    p: Mapping[str, Mapping[str, float]]
    intransigence: Difference | None = None

    def within_noise(self, baseline: str, metric: str) -> bool:
        """Whether a difference is within noise, corrected for so many if it tests the method."""
        gap, p = self.versus[baseline].get(metric), self.p[baseline].get(metric)
        return gap is not None and (bool(gap.within_noise) or (p is not None and p >= ALPHA))


@dataclass(frozen=True)
class Section:
    """Methods that learned the same stream with the same backbone, so that they compare.

    Attributes:
        title: stream and backbone.
        groups: the methods.
        tasks: names of the stream's tasks.
        warnings: reasons not to trust the numbers, each a sentence.
        reference: what methods are compared with, besides the bound.
        compares: whether methods are compared with baselines at all; of thousands it takes long.
    """

    title: str
    groups: tuple[Group, ...]
    tasks: tuple[str, ...]
    warnings: tuple[str, ...]
    reference: str = PLAIN
    compares: bool = True

    @property
    def baselines(self) -> tuple[str, ...]:
        """What the tables compare methods with."""
        return tuple(dict.fromkeys((self.reference, BOUND)))

    @property
    def stream(self) -> str:
        """Name of the stream, with its version if that is not the first."""
        return self.groups[0].runs[0].stream

    @property
    def backbone(self) -> str:
        """Name of the backbone."""
        return self.groups[0].runs[0].record.run.backbone

    @property
    def scenarios(self) -> dict[Scenario, str]:
        """The accuracies to show, with their titles, see :attr:`Record.scenarios`."""
        return self.groups[0].runs[0].record.scenarios

    @property
    def independent(self) -> bool:
        """Whether every task starts from the pretrained weights."""
        return all(group.independent for group in self.groups)

    def leaderboard(self, scenario: Scenario) -> list[Standing]:
        """All methods, the best overall performance first."""
        return self._boards[scenario]

    @cached_property
    def _found(self) -> dict[tuple[int, int], tuple[Confound, ...]]:
        return {}

    @cached_property
    def _boards(self) -> dict[Scenario, list[Standing]]:
        return {scenario: self._board(scenario) for scenario in SCENARIOS}

    def _board(self, scenario: Scenario) -> list[Standing]:
        scores = {
            g.number: {metric: g.estimate(metric, scenario) for metric in METRICS}
            for g in self.groups
        }
        marks: dict[int, dict[str, str]] = defaultdict(dict)
        for metric in (name for name, about in METRICS.items() if about.contest):
            for number, mark in self._contest(metric, scenario).items():
                marks[number][metric] = mark
        names = tuple(dict.fromkeys((*BASELINES, self.reference))) if self.compares else ()
        versus = {
            name: {g.number: self._versus(g, name, scenario) for g in self.groups} for name in names
        }
        p = {name: self._corrected(name, versus[name]) for name in names}
        rows = [
            Standing(
                group,
                scores[group.number],
                marks[group.number],
                {name: versus[name][group.number] for name in names},
                {name: self.besides(name, group) for name in names},
                {name: p[name].get(group.number, {}) for name in names},
                self._intransigence(group, scenario) if self.compares else None,
            )
            for group in self.groups
        ]

        def place(row: Standing) -> tuple[float, str]:
            op = row.scores["overall_performance"]
            return (-op.mean if op else 1.0, row.group.label)

        return sorted(rows, key=place)

    def baseline(self, name: str, of: Group) -> Group | None:
        """The baseline's group to compare a method with; None for itself.

        One that differs in nothing else, if there is one; else the one that differs least. Networks
        for each task alone have nothing to keep: they are no baseline of runs through a stream.
        """
        found = self.bases(name)
        alike = [group for group in found if group.independent == of.independent]
        return self.nearest(alike if name == PLAIN else found, of)

    def bases(self, name: str) -> list[Group]:
        """The groups that go by the name of a baseline."""
        return [group for group in self.groups if group.called(name)]

    def alone(self, of: Group) -> Group | None:
        """Plain fine-tuning of every task alone, to measure a method's intransigence from."""
        found = [group for group in self.groups if group.base == PLAIN and group.independent]
        return None if of.independent else self.nearest(found, of)

    def _intransigence(self, group: Group, scenario: Scenario) -> Difference | None:
        other, metric = self.alone(group), "learning_accuracy"
        if other is None or scenario != "task_incremental":
            return None
        return difference(other.by_seed(metric, scenario), group.by_seed(metric, scenario))

    def nearest(self, among: Sequence[Group], of: Group) -> Group | None:
        """The group among some that differs least from one besides the methods; None for itself."""
        if any(group is of for group in among):
            return None
        ours = of.runs[0].settings

        def apart(group: Group) -> tuple[int, int]:
            theirs = group.runs[0].settings
            differ = sum(ours.get(key) != theirs.get(key) for key in ours.keys() | theirs)
            return len(self.confounds(of, group)), differ

        return min(among, key=apart, default=None)

    def confounds(self, ours: Group, theirs: Group) -> tuple[Confound, ...]:
        """What differs between two groups besides the methods."""
        key = ours.number, theirs.number
        if key not in self._found:
            self._found[key] = confounds(ours, theirs)
        return self._found[key]

    def besides(self, name: str, of: Group) -> tuple[Confound, ...]:
        """What differs between a method and its baseline besides the method."""
        other = self.baseline(name, of)
        return () if other is None else self.confounds(of, other)

    def compared(self, name: str) -> dict[str, list[str]]:
        """Labels of the methods by that of the baseline's group they are compared with."""
        found: dict[str, list[str]] = {}
        for group in self.groups:
            other = self.baseline(name, group)
            if other is not None:
                found.setdefault(other.label, []).append(group.label)
        return found

    def _versus(self, group: Group, name: str, scenario: Scenario) -> dict[str, Difference | None]:
        other = self.baseline(name, group)
        if other is None:
            return {}
        return {
            metric: difference(group.by_seed(metric, scenario), other.by_seed(metric, scenario))
            for metric, about in METRICS.items()
            if about.unit in ("accuracy", "change")
        }

    def _corrected(
        self, name: str, versus: Mapping[int, Mapping[str, Difference | None]]
    ) -> dict[int, dict[str, float]]:
        """P values by group and metric of the differences from a baseline that test the method."""
        fair = [g.number for g in self.groups if not self.besides(name, g)]
        found: dict[int, dict[str, float]] = defaultdict(dict)
        for metric in METRICS:
            gaps = [versus[number].get(metric) for number in fair]
            for number, p in zip(fair, corrected(gaps), strict=True):
                if p is not None:
                    found[number][metric] = p
        return found

    def _contest(self, metric: str, scenario: Scenario) -> dict[int, str]:
        """The best of the rivals and those within noise of it."""
        values = {g.number: g.by_seed(metric, scenario) for g in self.groups if g.rival}
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
