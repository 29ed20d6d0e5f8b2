"""How good the probabilities are that a network gives to classes.

[0] Guo et al., *On calibration of modern neural networks*, section 2: the expected calibration
    error, with 15 bins of confidence.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from clbench.metrics.base import TaskMetric

BINS = 15


class CalibrationError(TaskMetric):
    """Expected calibration error [0]: Σ_b n_b/n·|accuracy_b − mean confidence_b|, in 0…1.

    A sample's confidence is its largest probability; bin b of :data:`BINS` holds confidences in
    ((b − 1)/15, b/15].
    """

    right: Tensor
    confidence: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__(tasks)
        self.add_sum("right", BINS)
        self.add_sum("confidence", BINS)

    def add(self, logits_BC: Tensor, labels_B: Tensor, task_B: Tensor) -> None:
        """See :meth:`TaskMetric.add`."""
        confidence, answer = logits_BC.softmax(1).double().max(1)
        bin_B = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
        place = task_B * BINS + bin_B
        self.right.view(-1).index_add_(0, place, (answer == labels_B).double())
        self.confidence.view(-1).index_add_(0, place, confidence)

    def compute(self) -> Tensor:
        """See :meth:`TaskMetric.compute`."""
        # Counts cancel: n_b·|right_b/n_b − confidence_b/n_b|.
        return (self.right - self.confidence).abs().sum(1) / self.total


class NLL(TaskMetric):
    """Negative log-likelihood of a sample's class, the mean, in nats."""

    loss: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__(tasks)
        self.add_sum("loss")

    def add(self, logits_BC: Tensor, labels_B: Tensor, task_B: Tensor) -> None:
        """See :meth:`TaskMetric.add`."""
        loss_B = F.cross_entropy(logits_BC, labels_B, reduction="none")
        self.loss.index_add_(0, task_B, loss_B.double())

    def compute(self) -> Tensor:
        """See :meth:`TaskMetric.compute`."""
        return self.loss / self.total
