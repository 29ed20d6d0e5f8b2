"""What is measured of a network's output beside accuracy, by name. A new one is a row here."""

from __future__ import annotations

from clbench.metrics.base import TaskMetric
from clbench.metrics.probabilities import NLL, CalibrationError

METRICS: dict[str, type[TaskMetric]] = {
    "calibration_error": CalibrationError,
    "nll": NLL,
}
