"""What a network keeps of a batch for the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def kept_backward(model: nn.Module, inputs: Tensor) -> list[int]:
    """Bytes of each tensor that a model in training keeps of a batch for the backward pass."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, torch.UntypedStorage] = {}  # held, so that no two have one address

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(inputs)
    return [storage.nbytes() for storage in found.values()]
