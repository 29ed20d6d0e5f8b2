"""What was compared, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clbench.record.baselines import PLAIN
from clbench.record.record import TITLES, Scenario
from clbench.report.gather import Run
from clbench.report.section import Section
from clbench.report.tuning import Tuned


@dataclass(frozen=True)
class Compared:
    """Methods over seeds, from records alone.

    Attributes:
        sections: one for each stream and backbone.
        warnings: about the whole; each section has its own.
        failures: runs of a suite that failed, with the reason.
        skipped: what a suite left out for want of data or weights, with the reason.
        tunings: how the methods were tuned, one for each suite that was.
        notes: what else to know, each a sentence.
        problems: what could not be read, a line for each folder; among the warnings too.
        reference: what methods are compared with, besides the bound.
    """

    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    tunings: tuple[Tuned, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    reference: str = PLAIN
    #: What was worked out once, for the tables and the figures that ask again.
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for s in self.sections for group in s.groups for run in group.runs]

    @property
    def scenarios(self) -> Mapping[Scenario, str]:
        """The accuracies to show of all streams, with their titles: one if all share labels."""
        each = [section.scenarios for section in self.sections]
        return max(each, key=len, default=TITLES)
