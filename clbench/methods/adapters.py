"""Adapters beside the MLPs of a vision transformer, several of them, of which one acts at a time.

[0] Chen et al., *AdaptFormer: adapting vision transformers for scalable visual recognition*; here
    without its layer normalisation, as in the programs of APER and EASE.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from clbench.errors import ClbenchError


class Adapter(nn.Module):
    """s·W_up·relu(W_down·x) [0], biases included: nothing at the start, as W_up is 0; final.

    Args:
        width: F, of tokens.
        bottleneck: rows of W_down.
        scale: s.
    """

    def __init__(self, width: int, bottleneck: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for rest in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(rest)

    def forward(self, tokens_BNF: Tensor) -> Tensor:
        """What is added to the tokens, (B, N, F)."""
        return self.scale * self.up(F.relu(self.down(tokens_BNF)))  # type: ignore[no-any-return]


class AdaptedBlock(Block):
    """A timm block with adapters, by name; :attr:`acting` adds to the MLP's output; final."""

    adapters: nn.ModuleDict
    acting: str | None = None

    def forward(self, x: Tensor, *masks: Any, **named: Any) -> Tensor:
        """The block's own sum, and the adapter's of what the MLP is given before its norm."""
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), *masks, **named)))
        whole = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return whole if self.acting is None else whole + self.adapters[self.acting](x)


def add_adapters(model: nn.Module, name: str, bottleneck: int, scale: float) -> None:
    """Give every block of a ViT an adapter, which acts from now on; nothing if it has this one.

    Args:
        model: timm's; changed in place.
        name: of the adapters.
        bottleneck, scale: of them.

    Raises:
        ClbenchError: if it has other blocks than timm's plain ones.
    """
    blocks = list(model.blocks) if isinstance(model, VisionTransformer) else []
    if not blocks or any(type(block) not in (Block, AdaptedBlock) for block in blocks):
        kinds = ", ".join(sorted({type(block).__name__ for block in blocks})) or "none"
        raise ClbenchError(
            f"model.backbone: adapters go beside the MLPs of timm's plain ViT blocks, and this "
            f"{type(model).__name__} has {kinds}: choose another, as vit_base_patch16_224"
        )
    for block in blocks:
        if type(block) is Block:
            block.__class__, block.adapters = AdaptedBlock, nn.ModuleDict()
        assert isinstance(block, AdaptedBlock)
        if name not in block.adapters:
            block.adapters[name] = Adapter(model.embed_dim, bottleneck, scale)  # type: ignore[arg-type]
            block.acting = name


@contextmanager
def acting(model: nn.Module, name: str | None) -> Iterator[None]:
    """Within the context the adapters of a name act, or none."""
    blocks = [block for block in model.modules() if isinstance(block, AdaptedBlock)]
    before = [block.acting for block in blocks]
    for block in blocks:
        block.acting = name
    try:
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            block.acting = own
