"""What a network takes in memory when it is trained, counted by tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clbench.methods.base import overriding
from clbench.optim.settings import make_optimizer
from clbench.runner.network import restrict
from clbench.runner.setup import Setup
from clbench.weights import tensors_in

#: Images of the two batches that are measured.
FEW = 2


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        parts: of ``parameters``, ``gradients``, ``optimizer`` and what ``methods`` remember of the
            size of weights.
        saved: what each image of a batch has kept for the backward pass.
        largest: the largest tensor between two layers, of an image.
    """

    parts: dict[str, int]
    saved: float
    largest: float


def weigh(setup: Setup) -> Memory:
    """Count what the network of a setup takes, whose methods have started."""
    methods = setup.methods
    model = setup.network.model.train()
    states = tensors_in([method.state_dict() for method in methods])
    parameters = _bytes(model.parameters())
    for method in overriding(methods, "surgery"):
        model = method.surgery(model)
    restrict(model, methods)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    setup.stream.open(setup.stages[0], past=False)
    train, network = setup.stages[0].train, setup.network
    stored = train.images.take(train.index[torch.arange(2 * FEW) % len(train)])
    inputs = network.transform(setup.recipe).test(stored.to(network.device))
    few, more = (kept(model, inputs[:count], network.autocast) for count in (FEW, 2 * FEW))
    own = overriding(methods, "optimizer") if named else []
    optimizer = own[0].optimizer(named, setup.recipe.optimizer) if own else None
    if optimizer is None and named:
        optimizer = make_optimizer(setup.recipe.optimizer, [p for _, p in named], False)
    moments: list[Tensor] = []
    if optimizer is not None:
        optimizer.step()
        moments = list(tensors_in(list(optimizer.state.values())))
    return Memory(
        {
            "parameters": parameters,
            "gradients": _bytes(p for _, p in named),
            "optimizer": _bytes(moments),
            "methods": _bytes(x for x in states if x.is_floating_point()),
        },
        max(0, sum(more) - sum(few)) / FEW,
        max([*more, 0]) / (2 * FEW),
    )


def kept(
    model: nn.Module, inputs: Tensor, autocast: Callable[[], AbstractContextManager[object]]
) -> list[int]:
    """Bytes of each tensor that a model keeps for the backward pass, which is made as well.

    Args:
        model: in training mode; it is left with gradients.
        inputs: a batch (B, …).
        autocast: what the forward pass runs in.
    """
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), autocast():
        loss = model(inputs).float().sum()
    if loss.requires_grad:
        loss.backward()
    return list(found.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)
