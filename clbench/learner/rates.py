"""The optimiser of a task, and learning rates of single parameters."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from typing import Any

from torch import nn
from torch.optim import Optimizer

from clbench.errors import ClbenchError
from clbench.methods.base import Method, overriding
from clbench.optim.groups import parameter_groups
from clbench.optim.settings import make_optimizer
from clbench.recipe.recipe import Recipe

#: Lists in a group with an entry for each parameter; torch keeps names beside them, where given.
_OF_EACH = ("params", "param_names")


def optimizer_of(
    model: nn.Module, head: Collection[str], methods: Sequence[Method], recipe: Recipe
) -> Optimizer:
    """A fresh optimiser over the parameters that are trained.

    Args:
        model: the network.
        head: names of the head's parameters.
        methods: in order; one of them may bring an optimiser, all may scale rates.
        recipe: of the task.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    own, rules = overriding(methods, "optimizer"), recipe.optimizer
    optimizer = own[0].optimizer(named, rules) if own else None
    if optimizer is None:
        # With float16 gradients are scaled, and fused kernels unscale them too late.
        fused = not str(recipe.trainer.get("precision", "32")).startswith("16")
        groups = parameter_groups(rules, named, model, head)
        optimizer = make_optimizer(rules, groups, fused)
    if factors := overriding(methods, "rate"):
        scale(optimizer, {p: math.prod(m.rate(name) for m in factors) for name, p in named})
    return optimizer


def rate_of(optimizer: Optimizer) -> float:
    """The learning rate as it is now, of a group whose own factor is not 0; 0 without one."""
    groups = optimizer.param_groups
    return next((g["lr"] / share for g in groups if (share := g.get("scale", 1.0))), 0.0)


def scale(optimizer: Optimizer, factors: Mapping[nn.Parameter, float]) -> None:
    """Multiply the rate of every parameter; the optimiser's groups are divided by their factors.

    A group's ``scale``, its share of the peak rate, is multiplied along.

    Args:
        optimizer: any of torch's kind, before its first step; groups keep their other settings.
        factors: of all of its parameters, at least 0.

    Raises:
        ClbenchError: if a factor is negative.
    """
    if wrong := [factor for factor in factors.values() if not factor >= 0]:
        raise ClbenchError(
            f"a method's rate is {wrong[0]}, but a learning rate's factor must be at least 0: "
            "change its settings"
        )
    groups = []
    for group in optimizer.param_groups:
        for factor in dict.fromkeys(factors[p] for p in group["params"]):
            mine = [factors[p] == factor for p in group["params"]]
            share: dict[str, Any] = {n: group.get(n, 1.0) * factor for n in ("lr", "scale")}
            lists = {n: list(compress(group[n], mine)) for n in _OF_EACH if n in group}
            groups.append({**group, **share, **lists})
    optimizer.param_groups[:] = groups
