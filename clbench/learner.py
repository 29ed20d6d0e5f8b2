"""The only LightningModule: one task's training, and the folds of what the methods contribute."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from clbench.data.batches import Batch
from clbench.errors import ClbenchError
from clbench.footprint import Clock
from clbench.method import Context, Method, overriding
from clbench.optimizer import learning_rate, make_optimizer
from clbench.processes import mean_over_processes
from clbench.recipe import Recipe


class Learner(L.LightningModule):
    """Trains a network on one task.

    Args:
        context: the task, the network and its loss.
        methods: what contributes, in order.
        recipe: the settings of this task.
        first_step: steps of earlier tasks, so that logs run on one axis.
        clock: counts the time that each method takes.
        on_step: called after every step with the step of the whole stream.
    """

    def __init__(
        self,
        context: Context,
        methods: Sequence[Method],
        recipe: Recipe,
        first_step: int = 0,
        clock: Clock | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self.context, self.recipe = context, recipe
        self.model, self.losses = context.model, context.losses
        self.methods = list(methods)
        self.first_step, self.on_step = first_step, on_step
        self.clock = clock or Clock()
        self.total_steps = context.total_steps
        self.step_count = self.sample_count = 0
        self.last_loss: Tensor | None = None  # of this process's part of the batch
        self.run_loss: float | None = None  # of the whole batch, when it was last logged
        self.channels_last = False
        self._weights = overriding(methods, "weights")
        self._penalty = overriding(methods, "penalty")
        self._project = overriding(methods, "project")
        self._after_step = overriding(methods, "after_step")
        self._idle_rows: list[tuple[Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        """Remember the rows of the head that must not move."""
        idle = self.losses.idle
        if idle.any():
            parameters = dict(self.model.named_parameters())
            self._idle_rows = [
                (parameters[name], parameters[name].detach()[idle].clone())
                for name in self.context.head
            ]

    def on_train_epoch_start(self) -> None:
        """BatchNorm layers that are frozen, or in a frozen trunk, keep their statistics."""
        trunk = [p for name, p in self.model.named_parameters() if name not in self.context.head]
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                own = list(module.parameters(recurse=False)) or trunk
                if not any(parameter.requires_grad for parameter in own):
                    module.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch: mean(∏ weights · loss) + Σ penalties."""
        inputs = self.context.transform.train(batch.images, batch.draws)
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        losses_B = self.losses(self.model(inputs), batch.labels)
        for method in self._weights:
            with self.clock(method):
                factors_B = method.weights(batch, losses_B.detach())
            if factors_B is not None:
                losses_B = losses_B * factors_B
        loss = losses_B.mean()
        if batch.share != 1.0:
            loss = loss * batch.share
        for method in self._penalty:
            with self.clock(method):
                penalty = method.penalty(self.model)
            if penalty is not None:
                loss = loss + penalty
        self.sample_count += len(batch.labels) if batch.share else 0
        self.last_loss = loss.detach()
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Gradients are complete and unscaled here, and not yet clipped."""
        for method in self._project:
            with self.clock(method):
                method.project(self.model)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser's step, then what edits the weights; checkpoints see the result."""
        super().optimizer_step(*args, **kwargs)
        self.step_count += 1
        with torch.no_grad():
            for parameter, rows in self._idle_rows:
                parameter[self.losses.idle] = rows
        for method in self._after_step:
            with self.clock(method):
                method.after_step(self.model, self.step_count)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self.step_count % every == 0 or self.step_count == self.total_steps:
            self._log()
        if self.on_step is not None:
            self.on_step(self.first_step + self.step_count)

    def _log(self) -> None:
        assert self.last_loss is not None
        loss = self.run_loss = mean_over_processes(self.last_loss).item()
        if not math.isfinite(loss):
            raise ClbenchError(
                f"the training loss is {loss} at step {self.step_count} of this task: lower "
                "optimizer.lr, add schedule.warmup, or set trainer.gradient_clip_val"
            )
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        for logger in self.loggers:
            logger.log_metrics(
                {"train/loss": loss, "train/learning_rate": rate},
                step=self.first_step + self.step_count,
            )

    def configure_optimizers(self) -> Any:
        """A fresh optimiser and schedule over the parameters that are trained."""
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        own = overriding(self.methods, "optimizer")
        optimizer = own[0].optimizer(named, self.recipe.optimizer) if own else None
        if optimizer is None:
            fused = not str(self.recipe.trainer.get("precision", "32")).startswith("16")
            parameters = [parameter for _, parameter in named]
            optimizer = make_optimizer(self.recipe.optimizer, parameters, fused)
        scheduler = LambdaLR(optimizer, learning_rate(self.recipe.schedule, self.total_steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
