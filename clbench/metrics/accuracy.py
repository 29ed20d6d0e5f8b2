"""Shares of samples: those that are classified right, and those whose output is no number."""

from __future__ import annotations

import torch
from torch import Tensor

from clbench.metrics.base import TaskMetric


class Share(TaskMetric):
    """The share of a task's samples for which something holds; abstract."""

    count: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__(tasks)
        self.add_sum("count", dtype=torch.int64)

    def compute(self) -> Tensor:
        """See :meth:`TaskMetric.compute`."""
        return self.count.double() / self.total


class Accuracy(Share):
    """The share of samples whose class has the highest logit."""

    def add(self, logits_BC: Tensor, labels_B: Tensor, task_B: Tensor) -> None:
        """See :meth:`TaskMetric.add`."""
        self.count.index_add_(0, task_B, (logits_BC.argmax(1) == labels_B).long())


class TopAccuracy(Share):
    """The share of samples whose class is among the ``top`` highest logits."""

    def __init__(self, tasks: int, top: int) -> None:
        super().__init__(tasks)
        self.top = top

    def add(self, logits_BC: Tensor, labels_B: Tensor, task_B: Tensor) -> None:
        """See :meth:`TaskMetric.add`."""
        # Of equal logits, the same come first for every ``top``.
        best = logits_BC.topk(min(5, logits_BC.shape[1]), dim=1).indices[:, : self.top]
        self.count.index_add_(0, task_B, (best == labels_B[:, None]).any(1).long())


class Flaws(Share):
    """The share of samples whose output is not finite."""

    def add(self, logits_BC: Tensor, labels_B: Tensor, task_B: Tensor) -> None:
        """See :meth:`TaskMetric.add`."""
        self.count.index_add_(0, task_B, (~logits_BC.isfinite()).any(1).long())
