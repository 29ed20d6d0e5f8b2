"""The mean of a network's weights along its way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class RunningMean:
    """The mean of the weights at every so-manieth step, at the last, and at the start; final.

    Running statistics are averaged along. Rows of the head that the start never learned are the
    mean of what they were since.

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
        self.count, self._interval, self._steps = 0, interval, steps
        self._head, self._learned_C = tuple(head), learned_C
        self._mean = {
            name: value.detach().clone()
            for name, value in model.state_dict().items()
            if value.is_floating_point()
        }

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step, from 1; after the last, put the mean in their place."""
        if step % self._interval and step != self._steps:
            return
        self.count += 1
        now = model.state_dict()
        for name, mean in self._mean.items():
            before = mean[~self._learned_C].clone() if name in self._head else None
            mean.lerp_(now[name], 1 / (self.count + 1))
            if before is not None:
                new = now[name][~self._learned_C]
                mean[~self._learned_C] = before.lerp_(new, 1 / self.count)
            if step == self._steps:
                now[name].copy_(mean)
