"""A method over seeds: runs that differ in nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clbench.record.baselines import BOUND, PLAIN
from clbench.record.record import Scenario
from clbench.report.gather import Run
from clbench.report.metrics import bounds
from clbench.report.statistics import Mean, mean_of

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
        return mean_of(list(self.by_seed(metric, scenario).values()), within=bounds(metric))
