"""A method over seeds: runs that differ in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from clbench.record.baselines import BASELINES, BOUND, PLAIN
from clbench.record.record import Scenario
from clbench.report.gather import MEASURED, Run
from clbench.report.metrics import bounds
from clbench.report.statistics import Mean, mean_of

#: Scores of what is kept, and the power of it that they grow with.
KEPT = {"kept": 1.0, "geometric_mean": 0.5}
GroupKind = Literal["bound", "past", "oblivious"]


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        label: the method's name in the report, unique within its section.
        runs: by seed; unfinished ones are listed but do not count.
        number: unique within the report.
        tries: settings that were tried in tuning before.
        name: what the suite or the recipe calls the method; its label where others are called so.
        aside: whether it is networks for each task alone, beside networks for all tasks: they
            contend with none, and have no accuracy among the classes of all tasks.
    """

    label: str
    runs: tuple[Run, ...]
    number: int
    tries: int = 0
    name: str = ""
    aside: bool = False

    @property
    def finished(self) -> list[Run]:
        """The runs that count."""
        return [run for run in self.runs if run.finished]

    @property
    def base(self) -> str | None:
        """Which of the :data:`BASELINES` the runs are, with nothing beside it; None: no one."""
        run = self.runs[0]
        if not run.methods:
            return PLAIN
        return BOUND if {*run.methods} == run.having("joint") else None

    @property
    def independent(self) -> bool:
        """Whether every task starts from the pretrained weights."""
        return self.runs[0].independent

    def called(self, name: str) -> bool:
        """Whether it goes by a name: a baseline's, the one in tables, or that of its methods."""
        if name in BASELINES:
            return self.base == name
        return name in (self.label, self.name, "+".join(self.runs[0].methods))

    @property
    def kind(self) -> GroupKind:
        """``bound`` (all tasks at once), ``past`` (the methods see past data) or ``oblivious``."""
        if self.runs[0].having("joint"):
            return "bound"
        seen = (run.summary["footprint"] for run in self.runs if run.record.tasks)
        return "oblivious" if all(part["data_oblivious"] for part in seen) else "past"

    @property
    def rival(self) -> bool:
        """Whether it contends for the best score."""
        return self.kind != "bound" and not self.aside

    def by_seed(self, metric: str, scenario: Scenario) -> dict[int, float]:
        """The score of each finished seed that has one."""
        if self.aside and scenario == "class_incremental" and self._chosen(metric):
            return {}
        found = {run.seed: run.score(metric, scenario) for run in self.finished}
        return {seed: value for seed, value in found.items() if value is not None}

    def estimate(self, metric: str, scenario: Scenario) -> Mean | None:
        """The score over the seeds; None if no run has it."""
        values = list(self.by_seed(metric, scenario).values())
        return mean_of(values, within=self._within(metric, scenario))

    def _within(self, metric: str, scenario: Scenario) -> tuple[float, float]:
        """The least and the largest value of a score: more can be kept than there was, but no more
        than everything."""
        least, most = bounds(metric)
        before = self.by_seed("pretrained", scenario).values() if metric in KEPT else ()
        if before and min(before) > 0:
            most = min(before) ** -KEPT[metric]
        return least, most

    def _chosen(self, metric: str) -> bool:
        """Whether a score depends on the classes that an answer is chosen among."""
        return metric in ("average", *MEASURED, *self.runs[0].summary["class_incremental"])


def set_aside(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Groups of one stream, of which those of independent tasks are aside if there are others.

    The multitask bound is none of these.
    """
    others = any(group.kind != "bound" and not group.independent for group in groups)
    return tuple(replace(group, aside=others and group.independent) for group in groups)
