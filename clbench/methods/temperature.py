"""FLOW's temperature as it follows training: the median of the mini-batch, or a running one.

[0] Sanyal et al., *Upweighting easy samples in fine-tuning mitigates forgetting*: τ is the median
    of the losses of the whole fine-tuning set; "one could have it be the median of the mini-batch,
    a running / online median, etc." (the talk).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from clbench.processes.processes import gathered

Moving = Literal["batch_median", "running_median"]


def median(losses: Tensor) -> float:
    """The median of (N,) losses; of an even number, the mean of the middle two.

    Raises:
        ValueError: if there are none.
    """
    if not losses.numel():
        raise ValueError("the median of no losses is not defined: give a temperature")
    # Cross-entropy can be -0.0, and exp(-f/τ) with τ = -0.0 would be infinite.
    ordered = losses.flatten().abs().sort().values
    return (float(ordered[(len(ordered) - 1) // 2]) + float(ordered[len(ordered) // 2])) / 2


class MovingMedian:
    """The median of losses under the frozen reference, batch by batch of one task [0].

    ``batch_median`` is that of the global mini-batch. ``running_median`` is that over all samples
    seen so far in the task, each with its latest loss; once each has been seen it is, without
    augmentation, the median of the task. Samples of other tasks do not count.

    Args:
        rule: which of the two.
        samples: positions that a sample can have in the stream's training images.
        start: the median before the first batch.
        device: where the losses are.
    """

    def __init__(self, rule: Moving, samples: int, start: float, device: torch.device) -> None:
        self.rule, self.value = rule, start
        kept = samples if rule == "running_median" else 0
        self._latest = torch.full((kept,), torch.nan, device=device)

    def update(self, index_B: Tensor, losses_B: Tensor) -> float:
        """Take in what this process sees of a global batch, of its task; every process has to.

        Args:
            index_B: int64 (B,), positions of the samples; B may be 0.
            losses_B: their losses under the frozen reference, float32.

        Returns:
            The median; as it was if no process brought a sample.
        """
        losses = gathered(losses_B)
        if self.rule == "running_median":
            self._latest[gathered(index_B)] = losses
            losses = self._latest[~self._latest.isnan()]
        if len(losses):
            self.value = median(losses)
        return self.value
