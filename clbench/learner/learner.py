"""The only LightningModule: one task's training, and the folds of what the methods contribute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from clbench.data.batches import Batch
from clbench.data.mixing import mix_inputs
from clbench.learner.clipping import clip
from clbench.learner.early import Patience
from clbench.learner.footprint import Clock
from clbench.learner.rates import optimizer_of, rate_of
from clbench.learner.trainer import accumulated
from clbench.methods import name_of
from clbench.methods.base import Context, Forward, Method, overriding
from clbench.methods.gradient_share import GradientShares
from clbench.models.average import MovingAverage
from clbench.models.batch_norm import frozen
from clbench.models.finite import Loss, LossWatch, Term
from clbench.models.modes import checkpoint_gradients
from clbench.models.settings import AUTO
from clbench.optim.settings import learning_rate
from clbench.processes.processes import mean_over_processes
from clbench.recipe.recipe import Recipe


class Learner(L.LightningModule):
    """Trains a network on one task.

    Args:
        context: the task, the network and its loss.
        methods: what contributes, in order.
        recipe: the settings of this task.
        first_step: steps of earlier tasks, so that logs and ``schedule.over: stream`` go on.
        clock: counts the time that each method takes.
        on_step: called after every step with the step of the whole stream.
        stream_steps: steps of all tasks, for ``schedule.over: stream``; default: up to the end of
            this task.
    """

    def __init__(
        self,
        context: Context,
        methods: Sequence[Method],
        recipe: Recipe,
        first_step: int = 0,
        clock: Clock | None = None,
        on_step: Callable[[int], None] | None = None,
        stream_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.context, self.recipe = context, recipe
        self.model, self.losses = context.model, context.losses
        self.methods, self.clock = list(methods), clock or Clock()
        self.first_step, self.on_step = first_step, on_step
        self.total_steps, self.stream_steps = context.total_steps, stream_steps
        self.step_count = self.sample_count = 0
        self.compiled_count = 0  # images of compiled passes, which nothing within can count
        self.accumulate = accumulated(recipe)
        self.last_loss: Tensor | None = None  # of this process's part of the batch
        self.run_loss: float | None = None  # of the whole batch, when it was last logged
        self.watch, self.channels_last = LossWatch(), False
        self._admit = overriding(methods, "admit")
        self._own_losses = overriding(methods, "sample_losses")
        self._weights = overriding(methods, "weights")
        self._penalty = overriding(methods, "penalty")
        self._observe = overriding(methods, "observe")
        self._project = overriding(methods, "project")
        self._after_step = overriding(methods, "after_step")
        self.shares = GradientShares(self._penalty, self.total_steps)
        changing = [*overriding(methods, "surgery"), *self._project]
        self.changing = list(dict.fromkeys(name_of(method) for method in changing))
        self._idle_rows: list[tuple[Tensor, Tensor, Tensor]] = []
        self._looking = any((self._own_losses, self._weights, self._penalty, self._observe))
        self._features: Tensor | None = None
        self._seen: Forward | None = None  # the last batch's, where penalties are asked again
        self._forward: Callable[[Tensor], Tensor] = lambda inputs: self.model(inputs)
        self._average: MovingAverage | None = None
        self._patience = Patience(recipe.early_stopping, context)

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes here which hook runs, fifty times a step: no parameter, no module."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def on_fit_start(self) -> None:
        """Remember the rows of the head that must not move; see what the head is given."""
        if self._looking:
            head = self.model.get_submodule(self.context.head[0].rpartition(".")[0])
            self._tap = head.register_forward_pre_hook(self._see)
        idle_K = self.losses.idle.nonzero().flatten()  # each step would wait for a mask's
        if len(idle_K):
            parameters = dict(self.model.named_parameters())
            self._idle_rows = [
                (parameters[name], idle_K, parameters[name].detach()[idle_K])
                for name in self.context.head
            ]
        if self.recipe.ema:
            self._average = MovingAverage(self.model, self.recipe.ema)
        if self.recipe.model.checkpointing:
            checkpoint_gradients(self.model, True)
        if self.recipe.model.compile not in (None, AUTO):  # which is settled before the first task
            compiled = torch.compile(self.model, backend=self.recipe.model.compile)

            def forward(inputs: Tensor) -> Tensor:  # so that it is no second child of this module
                self.compiled_count += len(inputs)
                return cast(Tensor, compiled(inputs))

            self._forward = forward

    def on_train_end(self) -> None:
        """The task ends with the average of its weights, if it is to."""
        if self._average:
            self._average.give(self.model)
        if self.recipe.model.checkpointing:
            checkpoint_gradients(self.model, False)
        self.model.zero_grad()  # what follows has their room, and that of the optimiser's state
        for optimizer in self.trainer.optimizers:
            optimizer.state.clear()

    def cpu(self) -> Learner:
        """Lightning ends by this, which would take the weights off a GPU and back."""
        return self

    def on_fit_end(self) -> None:
        """Leave the network as it was."""
        if self._looking:
            self._tap.remove()
        self._features = self._seen = None

    def _see(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]

    def on_train_epoch_start(self) -> None:
        """BatchNorm layers that are frozen, or in a frozen trunk, keep their statistics."""
        trained = {name for name, p in self.model.named_parameters() if p.requires_grad}
        rule = self.recipe.model.batch_norm_training
        for module in frozen(self.model, self.context.head, trained.__contains__, rule):
            module.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch: mean(∏ weights · loss) + Σ penalties.

        Where gradients are accumulated, a batch counts by its part of the samples and a penalty
        counts once, so that the step is that of one batch of all these samples.
        """
        inputs = self.context.transform.train(batch.images, batch.draws)
        if batch.partners:
            others = self.context.transform.train(batch.partners.images, batch.partners.draws)
            inputs, kept = mix_inputs(inputs, others, batch.partners)
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        logits_BC = self._forward(inputs)
        losses_B = self._losses_of(logits_BC, batch.labels)
        if batch.partners:
            theirs_B = self._losses_of(logits_BC, batch.partners.labels)
            losses_B = kept * losses_B + (1 - kept) * theirs_B
        plain_B, first = losses_B, batch_idx % self.accumulate == 0
        terms: list[Term] = []
        forward = None
        if self._looking:
            step, features = self.step_count + 1, self._features
            forward = Forward(step, batch, inputs, self.model, logits_BC, losses_B, features)
            plain_B, forward = self._own(forward)
            losses_B = self._weighted(forward, terms)
        loss = losses_B.mean()
        share = batch.share * batch.part
        if share != 1.0:
            loss = loss * share
        if forward is not None:
            loss = self._penalised(forward, loss, first, terms)
            for method in self._observe:
                with self.clock(method), torch.no_grad():
                    method.observe(forward)
            self._seen = forward if self.shares.methods else None
        self.sample_count += len(batch.labels) if batch.share else 0
        value = loss.detach()
        self.last_loss = value if first or self.last_loss is None else self.last_loss + value
        plain_B = plain_B.detach()
        self.watch.add(Loss(self.step_count + 1, value, plain_B, terms, self.changing))
        # Lightning divides by the number of batches that it accumulates at most.
        return loss * self.accumulate if self.accumulate > 1 else loss

    def _losses_of(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Losses (B,) among the classes that the loss and the methods admit."""
        left_out_BC = None
        if self._admit:
            left_out_BC = self.losses.left_out(labels_B)
            for method in self._admit:
                with self.clock(method):
                    left_out_BC = method.admit(labels_B, left_out_BC)
            own_BC = nn.functional.one_hot(labels_B, logits_BC.shape[1]).bool()
            left_out_BC = left_out_BC & ~own_BC
        return cast(Tensor, self.losses(logits_BC, labels_B, left_out_BC))

    def _own(self, forward: Forward) -> tuple[Tensor, Forward]:
        """The batch's losses (B,) before any weights, a method's own if it has some; with these."""
        for method in self._own_losses:
            with self.clock(method):
                own_B = method.sample_losses(forward)
            if own_B is not None:
                forward = replace(forward, losses_B=own_B)
        return forward.losses_B, forward

    def _weighted(self, forward: Forward, terms: list[Term]) -> Tensor:
        """Losses (B,) times the methods' weights."""
        losses_B = forward.losses_B
        for method in self._weights:
            with self.clock(method):
                factors_B = method.weights(forward)
            if factors_B is not None:
                losses_B = losses_B * factors_B.detach()
                terms.append(Term("a sample's weight", name_of(method), factors_B))
        return losses_B

    def _penalised(self, forward: Forward, loss: Tensor, first: bool, terms: list[Term]) -> Tensor:
        """The loss with the methods' penalties; most count once a step."""
        for method in self._penalty:
            if not (first or method.every_batch):
                continue
            with self.clock(method):
                penalty = method.penalty(forward)
            if penalty is not None:
                loss = loss + penalty
                terms.append(Term("the penalty", name_of(method), penalty.detach()))
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Gradients are complete and unscaled here, and not yet clipped."""
        if self._seen is not None:
            self.shares.look(self._seen)
        for method in self._project:
            with self.clock(method):
                method.project(self.model)

    def configure_gradient_clipping(self, optimizer: Optimizer, *how: Any, **named: Any) -> None:
        """Clip as Lightning does, but also with fused kernels where no gradients are scaled.

        Lightning refuses these at any mixed precision; only float16 has gradients to unscale.
        """
        plugin = self.trainer.precision_plugin
        if not isinstance(plugin, MixedPrecision) or plugin.scaler is not None:
            super().configure_gradient_clipping(optimizer, *how, **named)
        else:
            clip(optimizer, *how, **named)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser's step, then what edits the weights; checkpoints see the result."""
        super().optimizer_step(*args, **kwargs)
        self.step_count += 1
        with torch.no_grad():
            for parameter, idle_K, rows in self._idle_rows:
                parameter.index_copy_(0, idle_K, rows)
        for method in self._after_step:
            with self.clock(method):
                method.after_step(self.model, self.step_count)
        if self._average:
            self._average.update(self.model)
        over = self._patience.over(self.model, self.step_count)
        if over:
            self.trainer.should_stop = True
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self.step_count % every == 0 or self.step_count == self.total_steps or over:
            self._log()
        if self.on_step is not None:
            self.on_step(self.first_step + self.step_count)

    def _log(self) -> None:
        assert self.last_loss is not None
        self.watch.look()
        loss = self.run_loss = mean_over_processes(self.last_loss).item()
        rate = rate_of(self.trainer.optimizers[0])
        for logger in self.loggers:
            logger.log_metrics(
                {"train/loss": loss, "train/learning_rate": rate},
                step=self.first_step + self.step_count,
            )

    def configure_optimizers(self) -> Any:
        """A fresh optimiser and schedule over the parameters that are trained."""
        optimizer = optimizer_of(self.model, self.context.head, self.methods, self.recipe)
        rate = learning_rate(
            self.recipe.schedule, self.total_steps, self.first_step, self.stream_steps
        )
        scheduler = LambdaLR(optimizer, rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
