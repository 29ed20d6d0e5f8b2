"""What linear and convolutional layers are given: the Gram matrices of their inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from torch import Tensor, nn

from clbench.data.reader import Reader
from clbench.models.modes import evaluating

#: Layers whose output is their weight times their input, or times patches of it.
KINDS = (nn.Linear, nn.Conv2d, Conv2dSame)


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
        layer: one of :data:`KINDS`.
        inputs: (B, …, N) of a linear layer, (B, C, H, W) of a convolution.

    >>> layer_columns(nn.Conv2d(2, 4, 1, groups=2), torch.zeros(3, 2, 5, 5)).shape
    torch.Size([2, 1, 75])
    """
    if isinstance(layer, nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1]).T[None]
    assert isinstance(layer, nn.Conv2d)
    groups, row = layer.groups, layer.weight[0]
    # With the identity for a weight the layer gives its patches, whatever its padding is.
    eye = torch.eye(row.numel(), dtype=inputs.dtype, device=inputs.device)
    eye = eye.view(-1, *row.shape).repeat(groups, 1, 1, 1)
    if isinstance(layer, Conv2dSame):
        rules: Any = (layer.stride, layer.padding, layer.dilation, groups)
        found = conv2d_same(inputs, eye, None, *rules)
    else:
        found = layer._conv_forward(inputs, eye, None)
    return found.reshape(len(inputs), groups, row.numel(), -1).permute(1, 2, 0, 3).flatten(2)


def input_grams(
    model: nn.Module, layers: Mapping[str, nn.Module], images: Iterable[Tensor], reader: Reader
) -> dict[str, Tensor]:
    """Σ x·xᵀ over all inputs x of layers, in evaluation mode: float64 (G, N, N) each.

    Layers that are not called as modules are left out.

    Args:
        model: the network.
        layers: of it, by any names.
        images: batches (B, 3, S, S), small ones: all layers' inputs of one are held.
        reader: makes the context of forward passes.
    """
    seen: list[tuple[str, Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, given, name=name: seen.extend((name, x) for x in given[:1])
        )
        for name, layer in layers.items()
    ]
    grams: dict[str, Tensor] = {}
    try:
        with evaluating(model), torch.no_grad():
            for inputs in images:
                with reader.autocast():
                    model(inputs)
                for name, given in seen:
                    x = layer_columns(layers[name], given.float())
                    gram = (x @ x.mT).double()
                    grams[name] = grams[name] + gram if name in grams else gram
                seen.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return grams
