"""What a method asks for, and what it sees when a task starts or finishes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.models.anchors import Anchors
from clbench.models.settings import Probe

if TYPE_CHECKING:
    from clbench.data.reader import Reader
    from clbench.data.transforms import Transform
    from clbench.models.loss import ClassLoss
    from clbench.streams import Task


@dataclass(frozen=True)
class Needs:
    """What a method asks for beyond the current task and the weights being trained.

    Attributes:
        past_data: images of earlier tasks. Without it, touching them is an error.
        past_tasks: what earlier tasks left behind, so that it is nothing without any before.
        task_boundaries: to be told when a task ends.
        copies: extra copies of the weights kept while training.
        reference_data: images beside the stream's; not those of the pretraining, which nobody has.
        passes: extra forward (or forward and backward) passes per step, in units of one pass
            over a batch.
    """

    past_data: bool = False
    past_tasks: bool = False
    task_boundaries: bool = False
    reference_data: bool = False
    copies: int = 0
    passes: float = 0.0


@dataclass(frozen=True)
class Context:
    """What a method sees when a task starts or finishes.

    Attributes:
        task: the task, with its training data.
        model: the network, on the training device.
        head: names of the head's parameters.
        anchors: θ_* and θ_o (the weights the task started from).
        total_steps: optimiser steps of this task, T.
        reader: reads a split's images as input, as the run does where it does not train on them.
        losses: the training loss, ``losses(logits, labels) -> (B,)``, among admitted classes.
        seed: for draws of the method's own.
        batch_size: samples of a global batch.
        probe_losses: (N,) losses of the task's training images under the linear-probed head,
            in the order of ``task.train``; None where the head was not probed.
        probe: the recipe's settings of a linear probe, for this task.
        shared: whether the tasks of the stream share their labels, and so the head's rows.
        first: whether no task comes before it, as in the first, and in all that are independent.
        original_head: what the pretrained weights came with in the head's place; None: nothing.
    """

    task: Task
    model: nn.Module
    head: tuple[str, ...]
    anchors: Anchors
    total_steps: int
    reader: Reader
    losses: ClassLoss
    seed: int
    batch_size: int
    probe_losses: Tensor | None = None
    probe: Probe = field(default_factory=Probe)
    shared: bool = False
    first: bool = False
    original_head: nn.Linear | None = None

    @property
    def transform(self) -> Transform:
        """Turns stored images into network input."""
        return self.reader.transform

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def seen_C(self) -> Tensor:
        """The classes known when this task ends, its own included: bool (C,), on the device."""
        seen_C = self.anchors.previous.learned.to(self.device).clone()
        seen_C[self.task.classes.start : self.task.classes.stop] = True
        return seen_C

    def drawn(self, count: int | None, random: torch.Generator) -> Split:
        """So many of the task's training images, in order; all, undrawn, if it has no more.

        Args:
            count: None: all.
            random: on the CPU.
        """
        split = self.task.train
        if count is None or count >= len(split):
            return split
        chosen = torch.randperm(len(split), generator=random)[:count].sort().values
        return Split(split.images, split.index[chosen], split.labels[chosen])
