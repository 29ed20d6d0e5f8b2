"""LoRA: the trunk changes by low-rank updates only.

[0] Hu et al., *LoRA: low-rank adaptation of large language models*, section 4.1:
    W = W_0 + (α/r)·B·A, with B = 0 at the start.
"""

from __future__ import annotations

import copy
import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from clbench.methods.base import Context, Method, Needs
from clbench.methods.targets import layers
from clbench.models.backbone import head_names
from clbench.weights import State

#: How torch names what a parametrization of a module's weight holds.
ORIGINAL, DOWN, UP = (f".parametrizations.weight.{name}" for name in ("original", "0.A", "0.B"))


def low_rank(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """The weight with its low-rank update, W_0 + scale·B·A [0].

    Args:
        weight: W_0, (out, in), or of a convolution (out, in/groups, height, width).
        down: A, (r, n), n the entries of one output's row of the weight.
        up: B, (out, r).
        scale: α/r.
    """
    return weight + scale * (up @ down).view_as(weight)


def freedom(rows: int, columns: int, rank: int) -> int:
    """The dimension of the set of rows × columns matrices of a rank, r·(rows + columns − r).

    >>> freedom(4, 6, 4) == 4 * 6  # a full rank is no restriction
    True
    """
    return rank * (rows + columns - rank)


class LowRank(nn.Module):
    """A parametrization of a weight by :func:`low_rank`; changes nothing at the start.

    Args:
        weight: W_0; gives shape, type and device.
        rank: r; at most what the shape allows.
        scale: α/r.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.scale = scale
        self.A = nn.Parameter(weight.new_empty(rank, columns))
        self.B = nn.Parameter(weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # torch's own for linear layers

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its update, in full precision, as when merged."""
        with torch.autocast(weight.device.type, enabled=False):
            return low_rank(weight, self.A, self.B, self.scale)


class LoRA(Method):
    """Train W_0 + (α/r)·B·A with W_0 frozen, and merge after every task [0].

    Linear and convolutional layers of the trunk are adapted; the head is trained in full, biases
    and normalisation stay as they are, running statistics included. Each task starts from the
    merged weights with new factors. There is no setting that equals plain fine-tuning.
    """

    summary: ClassVar[str] = "low-rank updates of linear and convolutional layers"
    needs: ClassVar[Needs] = Needs(task_boundaries=True)

    rank: int = Field(8, ge=1, description="r; layers that are smaller take what they allow")
    alpha: float = Field(16.0, gt=0, description="α; updates are scaled by α/r")
    targets: tuple[str, ...] = Field(
        ("*",),
        min_length=1,
        description="patterns of layer names, e.g. ['*.attn.qkv', '*.attn.proj']; "
        "default: all linear and convolutional layers but the head",
    )

    _head: tuple[str, ...] = ()
    _activity: dict[str, float] = {"active": 0.0}

    def surgery(self, model: nn.Module) -> nn.Module:
        changed = _copy_sharing_weights(model)
        for name in layers(changed, self.targets, "lora"):
            module = changed.get_submodule(name)
            weight: Tensor = module.weight  # type: ignore[assignment]
            update = LowRank(weight, self.rank, self.alpha / self.rank)
            parametrize.register_parametrization(module, "weight", update)
        return changed

    def start(self, context: Context) -> None:
        self._head = context.head

    def trainable(self, name: str) -> bool:
        return name in self._head or name.endswith((DOWN, UP))

    def unwrap(self, theta: State) -> State:
        merged, squares, changed = {}, 0.0, 0
        free, whole = 0, 0
        for name, tensor in theta.items():
            if name.endswith((DOWN, UP)):
                changed += tensor.numel()
            elif name.endswith(ORIGINAL):
                layer = name.removesuffix(ORIGINAL)
                down, up = theta[layer + DOWN], theta[layer + UP]
                weight = low_rank(tensor, down, up, self.alpha / self.rank)
                free += freedom(len(up), down.shape[1], len(down))
                whole += tensor.numel()
                squares += float((weight - tensor).square().sum())
                merged[f"{layer}.weight"] = weight
            else:
                merged[name] = tensor
        if changed:
            self._activity = {
                "active": float(squares > 0),
                "scope": 1 - free / whole,
                "update_norm": math.sqrt(squares),
                "adapter_parameters": float(changed),
            }
        return merged

    def activity(self) -> dict[str, float]:
        return self._activity


def _copy_sharing_weights(model: nn.Module) -> nn.Module:
    """A copy that shares the memory of what stays frozen, all parameters but the head's."""
    head = head_names(model)
    shared = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False)
        for name, parameter in model.named_parameters()
        if name not in head
    }
    return copy.deepcopy(model, shared)
