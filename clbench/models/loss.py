"""The training loss: cross-entropy among the classes that take part."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Logits = Literal["task", "seen", "all"]


class ClassLoss(nn.Module):
    """Per-sample cross-entropy among the admitted classes.

    Args:
        logits: ``task`` admits the classes of the sample's own task, ``seen`` those of all tasks
            so far, ``all`` those of the whole stream.
        present: int64 (K,), the global labels that occur in training, in a memory too.
        task_of_class: int64 (C,), the task of each class.
        seen: bool (C,), the classes seen so far, those of this task included.
        smoothing: the share of the target that is spread over the admitted classes.
    """

    def __init__(
        self,
        logits: Logits,
        present: Tensor,
        task_of_class: Tensor,
        seen: Tensor,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        tasks = int(task_of_class.max()) + 1
        if logits == "task":
            excluded = task_of_class != torch.arange(tasks)[:, None]
        elif logits == "seen":
            excluded = (~seen).expand(tasks, -1).clone()
        else:
            excluded = torch.zeros(tasks, len(task_of_class), dtype=torch.bool)
        self.register_buffer("task_of_class", task_of_class.clone())
        self.register_buffer("excluded", excluded)
        self.register_buffer("idle", excluded[task_of_class[present]].all(0))

    task_of_class: Tensor
    #: bool (T, C): what is left out for a sample of each task.
    excluded: Tensor
    #: bool (C,): classes that no training sample admits. Their rows of the head must not move;
    #: weight decay and momentum would move them, and silently damage earlier tasks.
    idle: Tensor

    def release(self, rows: Tensor | None) -> None:
        """Let rows bool (C,) of the head move that no sample admits."""
        if rows is not None:
            self.idle &= ~rows.to(self.idle.device)

    def left_out(self, labels_B: Tensor) -> Tensor:
        """The classes bool (B, C) that samples are not compared with."""
        return self.excluded[self.task_of_class[labels_B]]

    def forward(
        self, logits_BC: Tensor, labels_B: Tensor, left_out_BC: Tensor | None = None
    ) -> Tensor:
        """Losses (B,), in float32; without the classes of ``left_out_BC``, if given, for each."""
        if left_out_BC is None:
            left_out_BC = self.left_out(labels_B)
        masked = logits_BC.float().masked_fill(left_out_BC, -torch.inf)
        if self.smoothing:
            return smoothed(masked, labels_B, self.smoothing)
        return F.cross_entropy(masked, labels_B, reduction="none")


def smoothed(logits_BC: Tensor, labels_B: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy (B,) with targets of 1 − s for the label, plus s spread over admitted classes.

    Args:
        logits_BC: float32; −inf for classes that a sample is not compared with.
        labels_B: int64, each admitted.
        smoothing: s in [0, 1).

    >>> logits = torch.tensor([[2.0, 1.0, -torch.inf]])
    >>> torch.allclose(
    ...     smoothed(logits, torch.tensor([0]), 0.1),
    ...     F.cross_entropy(logits[:, :2], torch.tensor([0]), label_smoothing=0.1),
    ... )
    True
    """
    logs_BC = logits_BC.log_softmax(1)
    admitted_BC = logits_BC > -torch.inf
    spread_B = logs_BC.where(admitted_BC, 0).sum(1) / admitted_BC.sum(1)
    own_B = logs_BC.gather(1, labels_B[:, None]).squeeze(1)
    return -(1 - smoothing) * own_B - smoothing * spread_B
