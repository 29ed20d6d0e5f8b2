"""A method over seeds: runs that differ in nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clbench.record.record import Scenario
from clbench.report.gather import Run
from clbench.report.metrics import bounds
from clbench.report.statistics import Mean, mean_of

Kind = Literal["bound", "past", "oblivious"]


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

    def is_method(self, name: str) -> bool:
        """Whether the runs use exactly this method (``sequential``: none)."""
        return (self.runs[0].methods or ["sequential"]) == [name]

    @property
    def kind(self) -> Kind:
        """``bound`` (multitask), ``past`` (the methods see past data) or ``oblivious``."""
        if "multitask" in self.runs[0].methods:
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
