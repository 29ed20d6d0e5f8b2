"""The moving average of a network's weights while it is trained."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from clbench.processes.processes import world_size
from clbench.weights import State


def warmed_up(decay: float, updates: int) -> float:
    """The decay of update number ``updates``, from 1: min(d, (1 + n)/(10 + n)), as in TensorFlow.

    >>> [round(warmed_up(0.9, n), 3) for n in (1, 8, 1000)]
    [0.182, 0.5, 0.9]
    """
    return min(decay, (1 + updates) / (10 + updates))


class MovingAverage:
    """θ̄ ← d·θ̄ + (1 − d)·θ after every step, from the weights that it is made with.

    Buffers are averaged along where they are numbers; counters are the network's own.

    Args:
        model: the network; it is looked at by name, so that a copy may stand for it.
        decay: d in (0, 1).
        warm_up: whether the first steps have a lower one, see :func:`warmed_up`.

    Attributes:
        mean: θ̄, by name.
        updates: how many weights it has taken in.
    """

    def __init__(self, model: nn.Module, decay: float, warm_up: bool = False) -> None:
        self.decay, self.warm_up, self.updates = decay, warm_up, 0
        self.mean: State = {
            name: value.detach().clone()
            for name, value in model.state_dict().items()
            if value.is_floating_point()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        now = model.state_dict()
        self.updates += 1
        decay = warmed_up(self.decay, self.updates) if self.warm_up else self.decay
        mix: Any = get_ema_multi_avg_fn(decay)
        mix(list(self.mean.values()), [now[name] for name in self.mean], None)

    @torch.no_grad()
    def give(self, model: nn.Module) -> None:
        """Put the average in the place of the weights."""
        now = model.state_dict()
        for name, value in self.mean.items():
            now[name].copy_(value)

    def agree(self) -> None:
        """Take the first process's average: running statistics differ between processes."""
        if world_size() > 1:
            for value in self.mean.values():
                dist.broadcast(value, 0)
