"""What a comparison shows: the scores, their units, and which way is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from clbench.record.record import TITLES as SCENARIO_TITLES
from clbench.text.numbers import flops

__all__ = ["METRICS", "SCENARIO_ABOUT", "SCENARIO_TITLES", "Metric", "Unit", "bounds", "show"]

Unit = Literal["accuracy", "change", "bytes", "flops", "number", "seconds"]


@dataclass(frozen=True)
class Metric:
    """One column of a leaderboard.

    Attributes:
        label: the head of the column.
        about: what it is, in a sentence.
        unit: accuracies and changes are fractions, shown in percent and points.
        better: 1 if more is better, −1 if less is.
        contest: whether the best method is marked, and those within noise of it.
    """

    label: str
    about: str
    unit: Unit
    better: int
    contest: bool = False


METRICS: dict[str, Metric] = {
    "overall_performance": Metric(
        "OP",
        "overall performance: mean accuracy over all tasks after the last",
        "accuracy",
        1,
        True,
    ),
    "overall_performance_micro": Metric(
        "OP micro", "OP over all test images, in the place of all tasks", "accuracy", 1
    ),
    "average_incremental_accuracy": Metric(
        "Ā",
        "average incremental accuracy: mean over time of the mean accuracy on the tasks so far",
        "accuracy",
        1,
        True,
    ),
    "average_incremental_accuracy_micro": Metric(
        "Ā micro", "Ā over all test images of the tasks so far, as PyCIL and PILOT", "accuracy", 1
    ),
    "backward_transfer": Metric(
        "BWT", "backward transfer: mean of R[T, i] − R[i, i]; negative: forgot", "change", 1
    ),
    "forgetting": Metric(
        "Forgetting", "best accuracy before the end minus that at the end", "accuracy", -1
    ),
    "learning_accuracy": Metric(
        "Learning acc.",
        "mean accuracy on each task right after it was learned",
        "accuracy",
        1,
        True,
    ),
    "forward_transfer": Metric(
        "FWT",
        "forward transfer: mean of R[i−1, i] − b_i, b before the first task",
        "change",
        1,
    ),
    "mtil_transfer": Metric(
        "Transfer", "MTIL’s: accuracy on tasks before they are learned", "accuracy", 1
    ),
    "mtil_average": Metric(
        "Avg", "MTIL’s: mean accuracy on all tasks after every task", "accuracy", 1
    ),
    "min_accuracy": Metric(
        "min-ACC",
        "lowest accuracy on each task while later ones were trained, mean over tasks",
        "accuracy",
        1,
    ),
    "worst_case_accuracy": Metric(
        "WC-ACC", "accuracy on the last task and min-ACC, weighed by tasks", "accuracy", 1
    ),
    "retention": Metric(
        "Retention",
        "top-1 accuracy on what the backbone was pretrained for, at the end",
        "accuracy",
        1,
        True,
    ),
    "probe_change:ridge": Metric(
        "Δ ridge probe",
        "accuracy on earlier tasks of a linear probe of the features, made anew: in the end, minus "
        "right after each was learned; by the default settings",
        "change",
        1,
    ),
    "probe_change:knn": Metric("Δ kNN", "the same of nearest neighbours", "change", 1),
    "average": Metric("Average", "FLOW's average: mean of retention and OP", "accuracy", 1, True),
    "calibration_error": Metric(
        "ECE",
        "expected calibration error (15 bins), mean over all tasks after the last",
        "number",
        -1,
    ),
    "nll": Metric(
        "NLL",
        "negative log-likelihood in nats, mean over all tasks after the last",
        "number",
        -1,
    ),
    "retention:calibration_error": Metric(
        "ECE retention", "expected calibration error of the original head, at the end", "number", -1
    ),
    "retention:nll": Metric(
        "NLL retention",
        "negative log-likelihood of the original head in nats, at the end",
        "number",
        -1,
    ),
    "kept": Metric("Kept", "retention after ÷ before", "number", 1),
    "geometric_mean": Metric(
        "√(OP·kept)", "geometric mean of OP and the share of retention that is kept", "accuracy", 1
    ),
    "stored_bytes": Metric("Stored", "bytes that the methods keep from past tasks", "bytes", -1),
    "weight_copies": Metric("Copies", "extra copies of the weights", "number", -1),
    "extra_passes_per_step": Metric(
        "Passes", "extra passes through the network a step", "number", -1
    ),
    "flops": Metric(
        "FLOPs",
        "matrix products, convolutions and attention of training, forwards and backwards, in all "
        "passes of the methods; tests, optimisers and what is not a layer's are left out",
        "flops",
        -1,
    ),
    "seconds": Metric("Time", "wall-clock time of the whole stream", "seconds", -1),
}
SCENARIO_ABOUT = {
    "task-incremental": "chooses among the classes of the image’s own task",
    "class-incremental": "chooses among all classes seen so far",
    "domain-incremental": "chooses among the classes, which are the same in every task: "
    "task-incremental and class-incremental accuracy are one",
}


def bounds(metric: str) -> tuple[float, float]:
    """The least and the largest value that a score can have."""
    about = METRICS.get(metric)
    if metric.startswith(("before:", "after:", "probe_learned:", "probe_final:")):
        return (0.0, 1.0)
    if about is None:
        return (-math.inf, math.inf)
    least = -1.0 if about.unit == "change" or metric == "forgetting" else 0.0
    capped = about.unit in ("accuracy", "change") and metric != "geometric_mean"
    return (least, 1.0 if capped else math.inf)  # more can be kept than there was


def show(value: float | None, unit: Unit, signed: bool = False) -> str:
    """A value as the tables show it: percent and points with one decimal, bytes by size.

    >>> show(0.1234, "accuracy"), show(-0.5, "change"), show(2.5e6, "bytes"), show(None, "number")
    ('12.3', '-50.0', '2.5 MB', '–')
    """
    if value is None:
        return "–"
    if unit in ("accuracy", "change"):
        text = f"{100 * value:{'+' if signed or unit == 'change' else ''}.1f}"
        return text.replace("-0.0", "0.0").replace("+0.0", "0.0") if float(text) == 0 else text
    if unit == "bytes":
        unit_of = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
        size, name = next(((s, n) for s, n in unit_of if value >= s), (1, "B"))
        return f"{value / size:.3g} {name}"
    if unit == "flops":
        return flops(value)
    if unit == "seconds":
        return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"
    return f"{value:.2g}"
