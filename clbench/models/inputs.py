"""What the layers of a network are given: means of x·xᵀ over their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from clbench.errors import ClbenchError
from clbench.models.modes import evaluating
from clbench.processes.processes import mean_over_processes

#: Numbers of a convolution's unfolded inputs at a time, about.
ROOM = 2**24


@torch.no_grad()
def input_covariances(
    model: nn.Module,
    layers: Sequence[str],
    batches: Iterable[Tensor],
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, Tensor]:
    """The mean of x·xᵀ over what each layer multiplies with a row of its weight, not centred.

    x are tokens of a linear layer, patches of a convolution, of each of its groups. The network is
    in evaluation mode, and left as it is.

    Args:
        model: inputs (B, …) to anything.
        layers: names of linear and convolutional layers.
        batches: inputs, on the model's device; several processes have a part each, and all get the
            mean over all.
        autocast: makes the context of the passes.

    Returns:
        Float64 (n, n) for each layer, n the entries of one output's row of the weight.

    Raises:
        ClbenchError: if a layer is a convolution over one or three dimensions, or never called.
    """
    modules = {name: model.get_submodule(name) for name in layers}
    device = next(model.parameters()).device
    sums, counts = {}, {}
    for name, module in modules.items():
        if isinstance(module, nn.Conv1d | nn.Conv3d):
            raise ClbenchError(f"{name}: no way to see inputs of {type(module).__name__}")
        size = module.weight[0].numel()  # type: ignore[index, union-attr, operator]
        sums[name] = torch.zeros(size, size, dtype=torch.float64, device=device)
        counts[name] = torch.zeros((), dtype=torch.float64, device=device)

    def look(name: str) -> Callable[..., None]:
        def add(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            with torch.autocast(device.type, enabled=False):
                for rows_NK in _rows(module, inputs[0].float()):
                    sums[name] += rows_NK.T @ rows_NK
                    counts[name] += len(rows_NK)

        return add

    hooks = [module.register_forward_pre_hook(look(name)) for name, module in modules.items()]
    try:
        with evaluating(model):
            for inputs in batches:
                with autocast():
                    model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name in layers:
        total, count = mean_over_processes(sums[name]), mean_over_processes(counts[name])
        if not count:
            raise ClbenchError(
                f"{name}: {type(model).__name__} does not call this layer as a module, so that its "
                "inputs cannot be seen: choose other layers or another backbone"
            )
        found[name] = total / count
    return found


def _rows(module: nn.Module, inputs: Tensor) -> Iterable[Tensor]:
    """The inputs (N, n) of a layer, of a few images at a time where they are many numbers."""
    if not isinstance(module, nn.Conv2d):
        yield inputs.flatten(0, -2)
        return
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if isinstance(module, Conv2dSame):
        inputs = pad_same(inputs, list(kernel), list(stride), list(dilation))
    elif module.padding_mode != "zeros":
        mode = module.padding_mode
        inputs = F.pad(inputs, module._reversed_padding_repeated_twice, mode)
    else:
        inputs = F.pad(inputs, module._reversed_padding_repeated_twice)
    one = inputs[0].numel() * kernel[0] * kernel[1]
    for part in inputs.split(max(1, ROOM // one)):
        unfolded = F.unfold(part, kernel, dilation, 0, stride)
        yield unfolded.unflatten(1, (module.groups, -1)).transpose(2, 3).flatten(0, 2)
