"""Learning rates of single parameters."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.optim import Optimizer

from clbench.errors import ClbenchError


def scale(optimizer: Optimizer, factors: Mapping[nn.Parameter, float]) -> None:
    """Multiply the rate of every parameter; the optimiser's groups are divided by their factors.

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
            own = [p for p in group["params"] if factors[p] == factor]
            groups.append({**group, "params": own, "lr": group["lr"] * factor})
    optimizer.param_groups[:] = groups
