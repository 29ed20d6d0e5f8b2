"""A method over seeds: runs that differ in nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clbench.record.baselines import BASELINES, BOUND, PLAIN
from clbench.record.record import Scenario
from clbench.report.gather import Run
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
    """

    label: str
    runs: tuple[Run, ...]
    number: int
    tries: int = 0
    name: str = ""

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

    def by_seed(self, metric: str, scenario: Scenario) -> dict[int, float]:
        """The score of each finished seed that has one."""
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
