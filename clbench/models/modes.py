"""A network in another mode for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from clbench.errors import ClbenchError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the context; afterwards every module is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def in_full_precision(classify: Callable[[Tensor], Tensor], features_BF: Tensor) -> Tensor:
    """What stands in the head's place, in float32 whatever the network passes in.

    Statistics were solved for in float32 or more, and types must meet.

    Args:
        classify: features (B, F) to logits (B, C).
        features_BF: of the network, in any precision.
    """
    with torch.autocast(features_BF.device.type, enabled=False):
        return classify(features_BF.float())


def checkpoint_gradients(model: nn.Module, on: bool) -> None:
    """Have a timm network compute its blocks again in the backward pass, or no more.

    Raises:
        ClbenchError: if it cannot, or has BatchNorm, whose running statistics would move twice.
    """
    way = "leave model.checkpointing out, or choose another backbone"
    if on and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        raise ClbenchError(
            f"model.checkpointing: BatchNorm's running statistics would move twice a step: {way}"
        )
    try:
        model.set_grad_checkpointing(on)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:  # timm asserts that a network can
        raise ClbenchError(
            f"model.checkpointing: timm has it for other networks, not for this one: {way}"
        ) from error


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Passes in here leave no trace in running statistics, and have no dropout.

    BatchNorm keeps its mode: where it trains it normalises by the batch's own statistics.
    """
    modes = [(module, module.training) for module in model.modules()]
    norms = [m for m, _ in modes if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    buffers = [(b, b.clone()) for norm in norms for b in norm.buffers()]
    try:
        for module, _ in modes:
            if not isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for buffer, before in buffers:
            buffer.copy_(before)
