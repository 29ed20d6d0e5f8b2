"""Gradients clipped as Lightning does it, also where it refuses to."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer


def clip(optimizer: Optimizer, value: float, algorithm: str | None) -> None:
    """Clip the gradients of all parameters of an optimiser, in place.

    Args:
        optimizer: whose gradients are complete.
        value: the largest norm of all together, or entry.
        algorithm: ``value`` for entries; else the norm.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if algorithm == "value":
        nn.utils.clip_grad_value_(parameters, value)
    else:
        nn.utils.clip_grad_norm_(parameters, value)
