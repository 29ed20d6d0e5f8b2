"""Per-sample gradients of a layer's parameters, from its inputs and the gradients of its outputs.

[0] Dangel et al., *BackPACK: packing more into backprop*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from clbench.models.differentiated import differentiated
from clbench.weights import State

#: For a layer, its input and the gradient of its output (B, …): gradients (B, *shape) by name, for
#: the caller to overwrite.
LayerRule = Callable[[Any, Tensor, Tensor], State]

#: Entries of the largest block of per-sample gradients that is held at once: on a CPU what stays in
#: a core's cache until its sizes are added up, elsewhere what keeps a GPU busy.
CACHED, BLOCK = 2**18, 2**22


class EntrySize(NamedTuple):
    """The size of an entry of a gradient, f: that of a product is the product of the sizes; final.

    Attributes:
        of: entries to their sizes.
        in_place: the same, where the entries were.
    """

    of: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]


SQUARE = EntrySize(torch.square, torch.square_)
MAGNITUDE = EntrySize(torch.abs, torch.abs_)


def layer_sizes(
    layer: nn.Module, inputs: Tensor, gradients: Tensor, size: EntrySize = SQUARE
) -> State:
    """Sum over samples of the sizes of a layer's gradients, some samples at a time.

    Args:
        layer: a module without others inside.
        inputs: (B, …), of the layer.
        gradients: (B, …), of its output.
        size: of a sample's gradient.

    Returns:
        By the layer's own names, tensors of the parameters' shapes.
    """
    if type(layer) is nn.Linear and inputs.ndim == 2:
        return _linear_sizes(layer, inputs, gradients, size)
    rule = RULES.get(type(layer), _by_vmap)
    entries = sum(parameter.numel() for parameter in layer.parameters())
    count = max(1, (CACHED if inputs.device.type == "cpu" else BLOCK) // entries)
    total: State = {}
    for inputs_B, gradients_B in zip(inputs.split(count), gradients.split(count), strict=True):
        found = rule(layer, inputs_B, gradients_B)
        add_up(total, {name: sum_over_samples(x, size) for name, x in found.items()})
    return total


def add_up(total: State, more: State) -> None:
    """Add tensors to those of the same names, in place; new names are taken in as they are."""
    for name, x in more.items():
        total[name] = total[name].add_(x) if name in total else x


def sum_over_samples(gradients: Tensor, size: EntrySize) -> Tensor:
    """The sum over samples of sizes, of gradients (B, …) that nobody needs any more."""
    # In place: fresh memory costs more than squaring. Of what is not used, zeros are one.
    return (size.of(gradients) if 0 in gradients.stride() else size.in_place(gradients)).sum(0)


def _linear_sizes(layer: nn.Linear, x_BF: Tensor, g_BC: Tensor, size: EntrySize) -> State:
    """The same where a sample passes once: its gradient is g·xᵀ, and its size f(g)·f(x)ᵀ."""
    x_BF, g_BC = size.of(x_BF), size.of(g_BC)
    found = {"weight": g_BC.T @ x_BF}
    return found if layer.bias is None else found | {"bias": g_BC.sum(0)}


def _linear(layer: nn.Linear, x: Tensor, g: Tensor) -> State:
    x, g = x.reshape(len(x), -1, x.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
    found = {"weight": g.transpose(1, 2) @ x}
    return found if layer.bias is None else found | {"bias": g.sum(1)}


def _conv(layer: nn.Conv2d, x: Tensor, g: Tensor) -> State:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return _by_vmap(layer, x, g)
    # Windows (B, places, kernel, channels): with the channels last they are copied in long runs,
    # in half the time that F.unfold takes.
    count, groups = len(x), layer.groups
    (top, left), sizes = cast(tuple[int, int], layer.padding), layer.kernel_size
    windows = F.pad(x, (left, left, top, top)).contiguous(memory_format=torch.channels_last)
    for axis, (size, step, gap) in enumerate(
        zip(sizes, layer.stride, layer.dilation, strict=True), start=2
    ):
        windows = windows.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]
    windows = windows.permute(0, 2, 3, 4, 5, 1)
    outputs = g.flatten(2)
    if groups > 1:
        windows = windows.unflatten(5, (groups, -1)).permute(0, 5, 1, 2, 3, 4, 6)
        outputs = outputs.reshape(count * groups, -1, outputs.shape[2])
    columns = windows.reshape(len(outputs), outputs.shape[2], -1)
    weight = (outputs @ columns).view(count, layer.out_channels, *sizes, -1)
    found = {"weight": weight.permute(0, 1, 4, 2, 3)}
    return found if layer.bias is None else found | {"bias": g.sum((2, 3))}


def _layer_norm(layer: nn.LayerNorm, x: Tensor, g: Tensor) -> State:
    normalised = F.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    places = tuple(range(1, x.ndim - len(layer.normalized_shape)))
    return _affine(layer, normalised, g, places)


def _group_norm(layer: nn.GroupNorm, x: Tensor, g: Tensor) -> State:
    normalised = F.group_norm(x, layer.num_groups, eps=layer.eps)
    return _affine(layer, normalised, g, tuple(range(2, x.ndim)))


def _batch_norm(layer: nn.BatchNorm2d, x: Tensor, g: Tensor) -> State:
    normalised = F.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
    return _affine(layer, normalised, g, tuple(range(2, x.ndim)))


def _affine(layer: nn.Module, normalised: Tensor, g: Tensor, places: tuple[int, ...]) -> State:
    found = {"weight": normalised * g, "bias": g}
    return {
        name: value.sum(places) if places else value.clone()
        for name, value in found.items()
        if getattr(layer, name) is not None
    }


def _by_vmap(layer: nn.Module, x: Tensor, g: Tensor) -> State:
    """The rule for any layer: its output's gradient pulled back, sample by sample."""

    def pulled(parameters: State, x_1: Tensor, g_1: Tensor) -> Tensor:
        output = functional_call(layer, parameters, (x_1[None],))
        return cast(Tensor, (output * g_1[None]).sum())

    parameters: State = {name: weight.detach() for name, weight in layer.named_parameters()}
    with torch.enable_grad(), differentiated(images=0):  # of a layer alone, not a pass
        return cast(State, vmap(grad(pulled), (None, 0, 0))(parameters, x, g))


RULES: dict[type[nn.Module], LayerRule] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.BatchNorm2d: _batch_norm,
}
