"""The frozen reference of a method: a copy of the network with the weights of an anchor."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from clbench.models.anchors import Anchors
from clbench.weights import State, is_statistic


def same_trunk(anchors: Anchors, head: tuple[str, ...]) -> bool:
    """Whether θ_o is θ_* but for the head: in the first task, and where tasks are rewound.

    Running statistics are left out: a probe can move them before the task.
    """
    pretrained, previous = anchors.pretrained.state, anchors.previous.state
    return all(
        torch.equal(x, previous[name])
        for name, x in pretrained.items()
        if name not in head and x.is_floating_point() and not is_statistic(name)
    )


def frozen_copy(model: nn.Module, state: State | None = None, shared: bool = False) -> nn.Module:
    """A copy in evaluation mode, without gradients, that computes with the weights ``state``.

    Args:
        model: a network at the start of a task, when parametrizations (LoRA) change nothing yet.
        state: weights under the plain network's names; None for the model's own.
        shared: compute with the tensors of ``state`` where they are, which takes no memory; then
            nobody may change either.
    """
    frozen = copy.deepcopy(model).requires_grad_(False).eval()
    parts = frozen.named_parameters, frozen.named_buffers
    own = {name: x for part in parts for name, x in part(remove_duplicate=False)}
    for name, tensor in (state or {}).items():
        module, _, leaf = name.rpartition(".")
        original = f"{module}.parametrizations.{leaf}.original"
        there = own[original if original in own else name]
        if shared and _lies_as(there) == _lies_as(tensor):
            there.data = tensor
        else:
            there.copy_(tensor)
    return frozen


def _lies_as(tensor: Tensor) -> tuple[object, ...]:
    return tensor.device, tensor.dtype, tensor.shape, tensor.stride()


def plain_network(model: nn.Module, state: State | None = None) -> nn.Module:
    """A copy of a network without parametrizations (LoRA).

    Args:
        model: a network.
        state: weights under the plain network's names; None for those it computes with.
    """
    plain = copy.deepcopy(model)
    for module in list(plain.modules()):
        if parametrize.is_parametrized(module):
            weights = {name: getattr(module, name) for name in module.parametrizations}  # type: ignore[union-attr]
            # Not remove_parametrizations: it would change the class that the original has, too.
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            for name, weight in weights.items():
                module.register_parameter(name, nn.Parameter(weight.detach()))
    if state is not None:
        plain.load_state_dict(state)
    return plain
