"""What a metric is: sums over each task's samples, which torchmetrics adds over all processes."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric


class TaskMetric(Metric, ABC):
    """One number for each task; abstract.

    Sums are states whose first dimension is the task, made with :meth:`add_sum`, so that no sample
    counts twice on any number of processes.

    Args:
        tasks: how many.
    """

    full_state_update = False
    total: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.add_sum("total", dtype=torch.int64)

    def add_sum(self, name: str, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        """Add a state of zeros, (tasks, *shape), that is summed over the processes."""
        zeros = torch.zeros(self.tasks, *shape, dtype=dtype)
        self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(self, logits_BC: Tensor, labels_B: Tensor, task_B: Tensor) -> None:
        """Take in a batch.

        Args:
            logits_BC: float32, −inf for classes that may not be answered.
            labels_B: int64, global labels.
            task_B: int64, which of the tasks each sample counts for.
        """
        self.total.index_add_(0, task_B, torch.ones_like(task_B))
        self.add(logits_BC, labels_B, task_B)

    @abstractmethod
    def add(self, logits_BC: Tensor, labels_B: Tensor, task_B: Tensor) -> None:
        """Add a batch to the sums, as for :meth:`update`; ``total`` has it already."""

    @abstractmethod
    def compute(self) -> Tensor:
        """The numbers, float64 (tasks,)."""
