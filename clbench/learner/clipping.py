"""Gradients clipped as Lightning does it, also where it refuses to."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer


def clip(
    optimizer: Optimizer,
    gradient_clip_val: float | None = None,
    gradient_clip_algorithm: str | None = None,
) -> None:
    """Clip the gradients of all parameters of an optimiser, in place.

    Args:
        optimizer: whose gradients are complete.
        gradient_clip_val: the largest norm of all together, or entry; None or 0: any.
        gradient_clip_algorithm: ``value`` for entries; else the norm.
    """
    if not gradient_clip_val:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if gradient_clip_algorithm == "value":
        nn.utils.clip_grad_value_(parameters, gradient_clip_val)
    else:
        nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
