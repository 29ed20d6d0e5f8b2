"""What linear and convolutional layers are given: Gram matrices of their inputs, and means."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from clbench.errors import ClbenchError
from clbench.models.modes import evaluating
from clbench.processes.processes import mean_over_processes, world_size

#: Layers whose output is their weight times their input, or times patches of it.
KINDS = (nn.Linear, nn.Conv2d, Conv2dSame)
#: Numbers of a convolution's patches at a time, about.
ROOM = 2**24

#: Makes the context of a pass.
Autocast = Callable[[], AbstractContextManager[object]]


def weighted(model: nn.Module, head: Collection[str]) -> dict[str, nn.Module]:
    """The linear and convolutional layers but the head, by the names of their weights.

    Layers of other classes, which may do something else with their weight, are left out.
    """
    return {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if type(module) in KINDS and f"{name}.weight" not in head
    }


def layer_columns(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What a layer's weight is multiplied with: (G, N, P), P inputs of length N for each group.

    N is the length of a row of the weight, in its order.

    Args:
        layer: one of :data:`KINDS`, with a parametrization or without.
        inputs: (B, …, N) of a linear layer, (B, C, H, W) of a convolution.

    >>> layer_columns(nn.Conv2d(2, 4, 1, groups=2), torch.zeros(3, 2, 5, 5)).shape
    torch.Size([2, 1, 75])
    """
    if isinstance(layer, nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1]).T[None]
    assert isinstance(layer, nn.Conv2d)
    padded = _padded(layer, inputs)
    patches = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
    return patches.unflatten(1, (layer.groups, -1)).permute(1, 2, 0, 3).flatten(2)


def _padded(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    if isinstance(layer, Conv2dSame):
        kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
        return pad_same(inputs, list(kernel), list(stride), list(dilation))
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(inputs, layer._reversed_padding_repeated_twice, mode)


def input_grams(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    batches: Iterable[Tensor],
    autocast: Autocast = nullcontext,
) -> dict[str, Tensor]:
    """Σ x·xᵀ over all inputs x of layers, not centred: float64 (G, N, N) for each.

    The network is in evaluation mode, and left as it is. Layers that are not called as modules are
    left out.

    Args:
        model: inputs (B, …) to anything.
        layers: of it, by any names.
        batches: inputs, on the model's device; several processes have a part each, and all get the
            sum over all.
        autocast: makes the context of the passes.

    Raises:
        ClbenchError: if a layer is none of :data:`KINDS`.
    """
    return {name: gram for name, (gram, _) in _summed(model, layers, batches, autocast).items()}


def input_covariances(
    model: nn.Module,
    names: Sequence[str],
    batches: Iterable[Tensor],
    autocast: Autocast = nullcontext,
) -> dict[str, Tensor]:
    """The mean of x·xᵀ over all inputs x of layers and of their groups, float64 (N, N) for each.

    Args:
        model: see :func:`input_grams`.
        names: of layers in it.
        batches: see :func:`input_grams`.
        autocast: see :func:`input_grams`.

    Raises:
        ClbenchError: if a layer is none of :data:`KINDS`, or is never called.
    """
    layers = {name: model.get_submodule(name) for name in names}
    found = _summed(model, layers, batches, autocast)
    for name in names:
        if name not in found:
            raise ClbenchError(
                f"{name}: {type(model).__name__} does not call this layer as a module, so that its "
                "inputs cannot be seen: choose other layers or another backbone"
            )
    return {name: gram.sum(0) / count for name, (gram, count) in found.items()}


@torch.no_grad()
def _summed(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    batches: Iterable[Tensor],
    autocast: Autocast,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Gram matrices (G, N, N) over all processes, and of how many inputs () in all groups."""
    device = next(model.parameters()).device
    grams, counts = {}, {}
    for name, layer in layers.items():
        if not isinstance(layer, KINDS):
            raise ClbenchError(f"{name}: no way to see inputs of {type(layer).__name__}")
        groups, size = getattr(layer, "groups", 1), layer.weight[0].numel()
        grams[name] = torch.zeros(groups, size, size, dtype=torch.float64, device=device)
        counts[name] = torch.zeros((), dtype=torch.float64, device=device)

    def look(name: str) -> Callable[..., None]:
        def add(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            with torch.autocast(device.type, enabled=False), full_precision():
                for part in _few(layer, inputs[0].float()):
                    columns_GNP = layer_columns(layer, part)
                    grams[name] += columns_GNP @ columns_GNP.mT
                    counts[name] += len(columns_GNP) * columns_GNP.shape[2]

        return add

    hooks = [layer.register_forward_pre_hook(look(name)) for name, layer in layers.items()]
    try:
        with evaluating(model):
            for inputs in batches:
                with autocast():
                    model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    world = world_size()
    found = {
        name: (mean_over_processes(grams[name]) * world, mean_over_processes(count) * world)
        for name, count in counts.items()
    }
    return {name: (gram, count) for name, (gram, count) in found.items() if count}


def _few(layer: nn.Module, inputs: Tensor) -> Iterable[Tensor]:
    """A layer's inputs, of a few images at a time where they are many numbers."""
    if not isinstance(layer, nn.Conv2d):
        return (inputs,)
    one = inputs[0].numel() * layer.kernel_size[0] * layer.kernel_size[1]
    return inputs.split(max(1, ROOM // one))


@contextmanager
def full_precision() -> Iterator[None]:
    """Within the context GPUs multiply matrices of float32 as such, not in TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
