"""Optimisers and learning-rate schedules: their settings, and what is made of them.

[0] Chen et al., *Symbolic discovery of optimization algorithms*, Algorithm 2 (Lion).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim import Optimizer as TorchOptimizer

from clbench.errors import reason
from clbench.settings import Section

Portion = Annotated[float, Field(ge=0, lt=1)]
ScheduleName = Literal["constant", "cosine", "step", "multistep", "poly", "tanh", "wsd", "rsqrt"]
#: Lion's betas in [0].
LION_BETAS = (0.9, 0.99)
#: Optimisers that are made here; others come from timm and torch by their names.
OWN = ("sgd", "adamw", "lion")
_MOMENTS = ("betas", "eps")
#: Settings that only some optimisers have, and which of them those made here take.
_OF_SOME = ("momentum", "nesterov", *_MOMENTS, "weight_decay")
_TAKEN = {
    "sgd": {"momentum", "nesterov", "weight_decay"},
    "adamw": {"betas", "eps", "weight_decay"},
    "lion": {"betas", "weight_decay"},
}


class Optimizer(Section):
    """The optimiser of every task; each task starts a fresh one."""

    name: str = Field(
        "sgd",
        description="sgd, adamw or lion; one of timm's, such as adan or lamb; or a class of "
        "torch.optim, such as Rprop",
    )
    lr: float = Field(0.01, gt=0, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum (sgd, and others that have it)")
    nesterov: bool = Field(False, description="Nesterov momentum (sgd, and others that have it)")
    betas: tuple[Portion, Portion] | None = Field(
        (0.9, 0.999),
        description="decay of the moments (adamw; lion, whose default is 0.9, 0.99; of others, "
        "their own by default)",
    )
    eps: float | None = Field(
        1e-8, gt=0, description="added to the denominator (adamw; of others, their own by default)"
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="weight decay (decoupled for adamw and lion, added to the gradient for sgd)",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="other arguments of an optimiser of timm's or torch's"
    )
    head_rate: float = Field(1.0, gt=0, description="factor of the head's learning rate")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor of the rate from each layer to the one below (timm's)"
    )
    decay_norms: bool = Field(
        True,
        description="whether normalisation layers, biases and what the network names (position "
        "embeddings) decay too",
    )

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        name = values.get("name", "sgd")
        if name not in OWN:
            return {"betas": None, "eps": None, **values}
        usual = {"betas": LION_BETAS} if name == "lion" else {}
        return usual | {k: v for k, v in values.items() if v is not None or k not in _MOMENTS}

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in OWN:
            from clbench.optim.named import wrong_optimizer  # timm takes a second

            if wrong := wrong_optimizer(name):
                raise PydanticCustomError("optimizer", wrong)
        return name

    @model_validator(mode="after")
    def _together(self) -> Optimizer:
        wrong = self._without_effect()
        if wrong:
            raise PydanticCustomError("optimizer", wrong)  # type: ignore[misc]
        if self.name == "sgd" and self.nesterov and not self.momentum:
            wrong = "nesterov: true needs a momentum above 0: give one, or leave it out"
        elif not self.decay_norms and not self.weight_decay:
            wrong = "decay_norms: false does nothing without weight_decay: give it, or leave it out"
        elif self.name in OWN and self.options:
            wrong = f"{self.name} has fields of its own and takes no options: leave them out"
        elif self.name not in OWN:
            try:
                make_optimizer(self, [nn.Parameter(torch.zeros(2, 2))])
            except ImportError as error:
                wrong = f"{self.name} needs a package that is not here: {reason(error)}"
            except Exception as error:  # each of these dozens raises kinds of its own
                wrong = f"{self.name} cannot be made of these settings: {reason(error)}"
        if wrong:
            raise PydanticCustomError("optimizer", wrong)
        return self

    def _without_effect(self) -> str:
        """What is set to no purpose; empty if all that is set is taken."""
        if self.name in OWN:
            taken = _TAKEN[self.name]
        else:
            from clbench.optim.named import taken_by

            taken = taken_by(self.name)
        fields = type(self).model_fields
        for field in _OF_SOME:
            usual, value = fields[field].default, getattr(self, field)
            if field in self.options:
                return f"options.{field}: it is a field of its own: give it without options"
            if field not in taken and value is not None and value != usual:
                return f"{self.name} has no {field}, and {value} would do nothing: leave it out"
        return ""

    @property
    def moments(self) -> tuple[tuple[float, float], float]:
        """Betas and eps of the optimisers that are made here, which have both."""
        assert self.betas is not None
        assert self.eps is not None
        return self.betas, self.eps

    @property
    def grouped(self) -> bool:
        """Whether parameters differ in rate or decay."""
        return self.head_rate != 1 or self.layer_decay != 1 or not self.decay_norms


class Schedule(Section):
    """The learning rate over one task, or over the stream."""

    name: ScheduleName = Field(
        "constant",
        description="after the warm-up: constant, cosine to 0, or one of timm's: step, multistep, "
        "poly, tanh, wsd, rsqrt",
    )
    warmup: float = Field(
        0.0, ge=0, lt=1, description="share of the steps in which the rate rises linearly"
    )
    over: Literal["task", "stream"] = Field(
        "task", description="of which steps: each task's own, or once over those of all tasks"
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="of timm's schedules, cosine too: decay_rate, decay_epochs, decay_milestones, "
        "min_lr …; lengths are shares of the steps after the warm-up, rates of the peak",
    )

    @model_validator(mode="after")
    def _can_be_made(self) -> Schedule:
        if self.name == "constant" and self.options:
            wrong: str | None = "a constant rate has no options: leave them out"
        elif self.name in ("constant", "cosine") and not self.options:
            return self
        else:
            from clbench.optim.named import wrong_schedule

            wrong = wrong_schedule(self.name, self.options)
        if wrong:
            raise PydanticCustomError("schedule", wrong)
        return self


def make_optimizer(
    rules: Optimizer,
    parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]],
    fused: bool = True,
) -> TorchOptimizer:
    """The optimiser of a recipe.

    Args:
        rules: its settings.
        parameters: what is trained, or groups of it with settings of their own.
        fused: whether to use torch's fused kernels, the fastest there are. They unscale fp16
            gradients inside their step, too late for whoever edits gradients before it.
    """
    if rules.name not in OWN:
        from clbench.optim.named import make_named

        given = {name: getattr(rules, name) for name in _OF_SOME}
        return make_named(rules.name, parameters, rules.lr, given, rules.options)
    betas, eps = rules.moments
    if rules.name == "adamw":
        return AdamW(
            parameters,
            lr=rules.lr,
            betas=betas,
            eps=eps,
            weight_decay=rules.weight_decay,
            fused=fused,
        )
    if rules.name == "lion":
        from timm.optim.lion import Lion  # here: settings alone should not wait for timm

        return Lion(parameters, rules.lr, betas, rules.weight_decay)
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
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def learning_rate(
    rules: Schedule, total_steps: int, before: int = 0, stream_steps: int | None = None
) -> Callable[[int], float]:
    """The learning rate as a factor of its peak, for each step of a task from 0.

    Linear warm-up over ``rules.warmup`` of the steps, then constant, a cosine to zero, or a
    schedule of timm's over the steps that are left.

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
    if rules.name not in ("constant", "cosine") or rules.options:
        from clbench.optim.named import make_schedule

        then = make_schedule(rules.name, rules.options, total - rising)
    else:
        then = _constant if rules.name == "constant" else _cosine(total - rising)

    def factor(step: int) -> float:
        step += first
        if step < rising:
            return (step + 1) / rising
        return then(step - rising)

    return factor


def _constant(step: int) -> float:
    return 1.0


def _cosine(steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        done = step / max(1, steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor
