"""A network in another mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
