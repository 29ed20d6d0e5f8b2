"""Optimisers and learning-rate schedules: their settings, and what is made of them.

[0] Chen et al., *Symbolic discovery of optimization algorithms*, Algorithm 2 (Lion).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim import Optimizer as TorchOptimizer

from clbench.settings import Section

Share = Annotated[float, Field(ge=0, lt=1)]
#: Lion's betas in [0].
LION_BETAS = (0.9, 0.99)


class Optimizer(Section):
    """The optimiser of every task; each task starts a fresh one."""

    name: Literal["sgd", "adamw", "lion"] = Field("sgd", description="sgd, adamw or lion")
    lr: float = Field(0.01, gt=0, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum (sgd)")
    nesterov: bool = Field(False, description="Nesterov momentum (sgd)")
    betas: tuple[Share, Share] = Field(
        (0.9, 0.999), description="decay of the moments (adamw; lion, whose default is 0.9, 0.99)"
    )
    eps: float = Field(1e-8, gt=0, description="added to the denominator (adamw)")
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="weight decay (decoupled for adamw and lion, added to the gradient for sgd)",
    )

    @model_validator(mode="before")
    @classmethod
    def _betas_of_lion(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("name") == "lion":
            return {"betas": LION_BETAS, **values}
        return values

    @model_validator(mode="after")
    def _momentum_for_nesterov(self) -> Optimizer:
        if self.name == "sgd" and self.nesterov and not self.momentum:
            raise PydanticCustomError(
                "nesterov", "nesterov: true needs a momentum above 0: give one, or leave it out"
            )
        return self


class Schedule(Section):
    """The learning rate over one task, or over the stream."""

    name: Literal["constant", "cosine"] = Field("constant", description="after the warm-up")
    warmup: float = Field(
        0.0, ge=0, lt=1, description="share of the steps in which the rate rises linearly"
    )
    over: Literal["task", "stream"] = Field(
        "task", description="of which steps: each task's own, or once over those of all tasks"
    )


def make_optimizer(
    rules: Optimizer, parameters: list[nn.Parameter], fused: bool = True
) -> TorchOptimizer:
    """The optimiser of a recipe.

    Args:
        rules: its settings.
        parameters: what is trained.
        fused: whether to use torch's fused kernels, the fastest there are. They unscale fp16
            gradients inside their step, too late for whoever edits gradients before it.
    """
    if rules.name == "adamw":
        return AdamW(
            parameters,
            lr=rules.lr,
            betas=rules.betas,
            eps=rules.eps,
            weight_decay=rules.weight_decay,
            fused=fused,
        )
    if rules.name == "lion":
        from timm.optim.lion import Lion  # here: settings alone should not wait for timm

        return Lion(parameters, rules.lr, rules.betas, rules.weight_decay)
    optimizer = SGD(
        parameters,
        lr=rules.lr,
        momentum=rules.momentum,
        nesterov=rules.nesterov,
        weight_decay=rules.weight_decay,
        fused=fused,
    )
    if rules.momentum:
        # The fused kernel wants a buffer for every parameter or for none; HFT's gradients come and
        # go. From zeros, the first step is the same.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def learning_rate(
    rules: Schedule, total_steps: int, before: int = 0, stream_steps: int | None = None
) -> Callable[[int], float]:
    """The learning rate as a factor of its peak, for each step of a task from 0.

    Linear warm-up over ``rules.warmup`` of the steps, then constant, or a cosine to zero.

    Args:
        rules: the schedule.
        total_steps: optimiser steps of the task.
        before: those of the tasks before it.
        stream_steps: those of all tasks; default: up to the end of this one.
    """
    first, total = 0, total_steps
    if rules.over == "stream":
        first, total = before, before + total_steps if stream_steps is None else stream_steps
    rising = round(rules.warmup * total)

    def factor(step: int) -> float:
        step += first
        if step < rising:
            return (step + 1) / rising
        if rules.name == "constant":
            return 1.0
        done = (step - rising) / max(1, total - rising)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor
