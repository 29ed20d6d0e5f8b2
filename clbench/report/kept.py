"""The table of FLOW's paper: what is kept of pretraining, target accuracy, and their average."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.record.baselines import PLAIN
from clbench.record.record import Scenario
from clbench.report.section import Section, Standing
from clbench.report.statistics import Difference, Mean, mean_of

NOTE = (
    "As in FLOW’s table: retention with its difference from the pretrained model, target (overall "
    "performance) with its difference from standard fine-tuning (sequential), and the mean of "
    "both; in %, differences of equal seeds in points. Best in bold; ≈: within noise of the best."
)


@dataclass(frozen=True)
class KeptLine:
    """A line of the table.

    Attributes:
        label: the method, or ``pretrained``.
        row: the method on the leaderboard; None for the pretrained model.
        retention: top-1 accuracy on what the backbone was pretrained for; on independent tasks,
            mean over their models.
        change: its difference from the pretrained model.
        target: overall performance.
        gap: its difference from sequential fine-tuning.
        average: mean of retention and target.
    """

    label: str
    row: Standing | None
    retention: Mean | None
    change: Mean | None
    target: Mean | None
    gap: Difference | None
    average: Mean | None

    @property
    def besides(self) -> str:
        """What differs from sequential fine-tuning besides the method."""
        found = self.row.besides[PLAIN] if self.row else ()
        return "; ".join(c.words for c in found)


def kept_lines(section: Section, scenario: Scenario) -> list[KeptLine]:
    """The table: the pretrained model, standard fine-tuning, then by average; empty if no run
    measured retention.

    Args:
        section: a stream and a backbone.
        scenario: which accuracies to read.
    """
    found = []
    before: dict[tuple[int, str], float] = {}
    for row in section.leaderboard(scenario):
        group = row.group
        if row.scores["retention"] is None:
            continue
        for run in group.finished:
            value = run.score("pretrained", scenario)
            if value is not None:
                # Pretrained within the run, the weights are others for each seed.
                weights = str(run.record.run.weights.sha256)
                before[run.seed, weights] = value
        found.append(
            KeptLine(
                group.label,
                row,
                row.scores["retention"],
                group.estimate("retention_change", scenario),
                row.scores["overall_performance"],
                Difference(0.0, 0.0, 0.0, row.scores["retention"].n, True)
                if group.base == PLAIN
                else row.versus[PLAIN].get("overall_performance"),
                row.scores["average"],
            )
        )
    if not found:
        return []

    def place(line: KeptLine) -> tuple[bool, bool, float, str]:
        own = line.row is not None and line.row.group.base == PLAIN
        bound = line.row is not None and line.row.group.kind == "bound"
        return (not own, bound, -line.average.mean if line.average else 1.0, line.label)

    values = {seed: value for (seed, _), value in before.items()}
    # The same weights under every seed are one measurement.
    if len({weights for _, weights in before}) == 1:
        values = dict(list(values.items())[:1])
    start = mean_of(list(values.values()), within=(0, 1))
    zero = mean_of([0.0])
    return [
        KeptLine("pretrained", None, start, zero, None, None, None),
        *sorted(found, key=place),
    ]
