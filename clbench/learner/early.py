"""Whether a task should end early: the loss on its validation images."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import nn

from clbench.methods.base import Context
from clbench.models.modes import evaluating
from clbench.processes.processes import rank_and_world, world_size
from clbench.recipe.early_stopping import EarlyStopping


class Patience:
    """Looks at the loss every few steps.

    Args:
        rules: how often, and how long a loss may stay above its least.
        context: of the task, with validation images and loss.
    """

    def __init__(self, rules: EarlyStopping, context: Context) -> None:
        self.rules, self.context = rules, context
        self.least, self.since = math.inf, 0

    def over(self, model: nn.Module, step: int) -> bool:
        """Whether it is time to end; every process of a run is told the same.

        Args:
            model: the network after a step.
            step: its number in the task, from 1.
        """
        if not self.rules.every or step % self.rules.every:
            return False
        loss = self._loss(model)
        lower = loss < self.least - self.rules.least
        self.least, self.since = (loss, 0) if lower else (self.least, self.since + 1)
        return self.since >= self.rules.patience

    @torch.no_grad()
    def _loss(self, model: nn.Module) -> float:
        """The mean loss on the validation images, each of which one process looks at."""
        reader, split = self.context.reader, self.context.task.validation
        device, (rank, world) = self.context.device, rank_and_world()
        if world_size() > 1:  # running statistics differ between processes
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)
        mine = torch.arange(len(split))[rank::world].split(reader.batch_size)
        found = torch.zeros((), dtype=torch.float64, device=device)
        for inputs, labels, _ in reader.batches(split, device, mine):
            with evaluating(model), reader.autocast():
                logits = model(inputs)
            found += self.context.losses(logits, labels).double().sum()
        if world_size() > 1:
            dist.all_reduce(found)
        return float(found) / len(split)
