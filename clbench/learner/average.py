"""The moving average of a task's weights, which the task ends with."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """θ̄ ← d·θ̄ + (1 − d)·θ after every step, from the weights that the task starts with.

    Buffers are averaged along where they are numbers; counters are the network's own.

    Args:
        model: the network; it is looked at by name, so that a copy may stand for it.
        decay: d in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._mix = get_ema_multi_avg_fn(decay)
        self._mean = {
            name: value.detach().clone()
            for name, value in model.state_dict().items()
            if value.is_floating_point()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        now = model.state_dict()
        self._mix(list(self._mean.values()), [now[name] for name in self._mean], None)

    @torch.no_grad()
    def give(self, model: nn.Module) -> None:
        """Put the average in the place of the weights."""
        now = model.state_dict()
        for name, value in self._mean.items():
            now[name].copy_(value)
