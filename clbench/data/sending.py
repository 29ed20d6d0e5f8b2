"""How tensors get to a GPU: by copies that nobody waits for."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; itself, if it is there.

    A plain copy to a GPU waits until all that the GPU has to do is done. One from pinned memory
    takes its turn there, and torch keeps that memory until then.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor if tensor.device == device else tensor.to(device)
