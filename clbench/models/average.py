"""Means of a network's weights along the way of its training: moving ones, and plain ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from clbench.processes.processes import world_size
from clbench.weights import State


def warmed_up(decay: float, updates: int) -> float:
    """The decay of update number ``updates``, from 1: min(d, (1 + n)/(10 + n)), as in TensorFlow.

    >>> [round(warmed_up(0.9, n), 3) for n in (1, 8, 1000)]
    [0.182, 0.5, 0.9]
    """
    return min(decay, (1 + updates) / (10 + updates))


class WeightMean:
    """A mean of weights, those that it is made with at first; abstract.

    Running statistics are averaged along; counters are the network's own.

    Attributes:
        mean: by name.
    """

    def __init__(self, model: nn.Module) -> None:
        self.mean: State = {
            name: value.detach().clone()
            for name, value in model.state_dict().items()
            if value.is_floating_point()
        }

    @torch.no_grad()
    def give(self, model: nn.Module) -> None:
        """Put the mean in the place of the weights."""
        now = model.state_dict()
        for name, value in self.mean.items():
            now[name].copy_(value)


class MovingAverage(WeightMean):
    """θ̄ ← d·θ̄ + (1 − d)·θ after every step, from the weights that it is made with; final.

    Args:
        model: the network; it is looked at by name, so that a copy may stand for it.
        decay: d in (0, 1).
        warm_up: whether the first steps have a lower one, see :func:`warmed_up`.

    Attributes:
        updates: how many weights it has taken in.
    """

    def __init__(self, model: nn.Module, decay: float, warm_up: bool = False) -> None:
        super().__init__(model)
        self.decay, self.warm_up, self.updates = decay, warm_up, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        now = model.state_dict()
        self.updates += 1
        decay = warmed_up(self.decay, self.updates) if self.warm_up else self.decay
        mix: Any = get_ema_multi_avg_fn(decay)
        mix(list(self.mean.values()), [now[name] for name in self.mean], None)

    def agree(self) -> None:
        """Take the first process's average: running statistics differ between processes."""
        if world_size() > 1:
            for value in self.mean.values():
                dist.broadcast(value, 0)


class RunningMean(WeightMean):
    """The mean of the weights at every so-manieth step, at the last, and at the start; final.

    Rows of the head that the start never learned are the mean of what they were since.

    Args:
        model: the network, as it starts.
        head: names of the head's parameters.
        learned_C: bool, rows of the head that it learned before.
        interval: steps from one that counts to the next.
        steps: of the task; the network ends with the mean.

    Attributes:
        count: weights in the mean beside those of the start.
    """

    def __init__(
        self, model: nn.Module, head: Sequence[str], learned_C: Tensor, interval: int, steps: int
    ) -> None:
        super().__init__(model)
        self.count, self._interval, self._steps = 0, interval, steps
        self._head, self._new_K = tuple(head), (~learned_C).nonzero().flatten()

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step, from 1; after the last, put the mean in their place."""
        if step % self._interval and step != self._steps:
            return
        self.count += 1
        now = model.state_dict()
        for name, mean in self.mean.items():
            before = mean[self._new_K] if name in self._head else None
            mean.lerp_(now[name], 1 / (self.count + 1))
            if before is not None:
                new = now[name][self._new_K]
                mean.index_copy_(0, self._new_K, before.lerp_(new, 1 / self.count))
        if step == self._steps:
            self.give(model)
