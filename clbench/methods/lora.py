"""LoRA: the trunk changes by low-rank updates only.

[0] Hu et al., *LoRA: low-rank adaptation of large language models*, section 4.1:
    W = W_0 + (α/r)·B·A, with B = 0 at the start.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from clbench.methods.low_rank import LowRank, LowRankUpdates, Updates, freedom, low_rank

__all__ = ["LoRA", "freedom", "low_rank"]


class LoRA(LowRankUpdates):
    """Train W_0 + (α/r)·B·A with W_0 frozen, and merge after every task [0].

    Linear and convolutional layers of the trunk are adapted; the head is trained in full, biases
    and normalisation stay as they are, running statistics included. Each task starts from the
    merged weights with new factors. There is no setting that equals plain fine-tuning::

        methods: {lora: {rank: 8, alpha: 16, targets: ['*.attn.qkv']}}
    """

    summary: ClassVar[str] = "low-rank updates of linear and convolutional layers"
    called: ClassVar[str] = "lora"

    rank: int = Field(8, ge=1, description="r; layers that are smaller take what they allow")
    alpha: float = Field(16.0, gt=0, description="α; updates are scaled by α/r")
    targets: tuple[str, ...] = Field(
        ("*",),
        min_length=1,
        description="patterns of layer names, e.g. ['*.attn.qkv', '*.attn.proj']; "
        "default: all linear and convolutional layers but the head",
    )

    def updates(self, layer: str, part: str, weight: Tensor, rows: Tensor | None) -> Updates:
        return [LowRank(weight, self.rank, self.alpha / self.rank, rows)]
