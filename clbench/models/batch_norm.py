"""What BatchNorm asks of the batches that a network is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

#: In training BatchNorm normalises by the batch and moves its running statistics where it trains
#: (update) or everywhere (update_all), or it normalises by these, and they stay (frozen).
StatisticsRule = Literal["update", "update_all", "frozen"]


def frozen(
    model: nn.Module,
    head: Sequence[str],
    trained: Callable[[str], bool],
    rule: StatisticsRule = "update",
) -> list[nn.Module]:
    """The BatchNorm layers that keep their statistics: frozen ones, and those in a frozen trunk.

    What the rule says goes before that.

    Args:
        model: the network.
        head: names of the head's parameters.
        trained: whether the parameter of a name is trained.
        rule: ``frozen`` is all layers, ``update_all`` none, whatever is trained.
    """
    if rule == "update_all":
        return []
    trunk = any(trained(name) for name, _ in model.named_parameters() if name not in head)
    found: list[nn.Module] = []
    for prefix, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = [f"{prefix}.{leaf}" for leaf, _ in module.named_parameters(recurse=False)]
            if rule == "frozen" or not (any(map(trained, own)) if own else trunk):
                found.append(module)
    return found


def least_batch(
    model: nn.Module,
    head: Sequence[str],
    trained: Callable[[str], bool],
    size: int,
    rule: StatisticsRule = "update",
) -> int:
    """How many samples the network needs at a time in training: 2 or, mostly, 1.

    BatchNorm cannot normalise a single value per channel, which is what deep layers see of a
    single small image. This is tried, and leaves no trace in the network.

    Args:
        model, head, trained, rule: as for :func:`frozen`.
        size: side of the input in pixels.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    still = frozen(model, head, trained, rule) if norms else []
    if len(still) == len(norms):
        return 1
    where = next(model.parameters())
    with untouched(model), torch.no_grad():
        model.train()
        for module in still:
            module.eval()
        try:
            model(torch.zeros(1, 3, size, size, device=where.device))
        except ValueError:
            return 2
    return 1


def statistics(model: nn.Module) -> list[str]:
    """Names of BatchNorm's running statistics, counters included, in the state dict."""
    return [
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for name, _ in module.named_buffers(recurse=False)
    ]


@contextmanager
def moving(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, but for BatchNorm: it normalises by the batch and moves its statistics."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = isinstance(module, nn.modules.batchnorm._BatchNorm)
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def chunks(index: Tensor, size: int, least: int) -> list[Tensor]:
    """``index.split(size)``, where a last part of fewer than ``least`` joins the one before it."""
    parts = list(index.split(size))
    if len(parts) > 1 and len(parts[-1]) < least:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Afterwards the network's modes and buffers, and all of torch's generators, are as before."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {buffer.device for buffer, _ in buffers if buffer.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
