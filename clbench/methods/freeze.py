"""Freezing: the first blocks of the trunk stay as they were pretrained.

[0] Yosinski et al., *How transferable are features in deep neural networks?*: copied layers from
    the bottom up, frozen or fine-tuned.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from pydantic import Field, field_validator
from torch import nn

from clbench.methods.partial import Partial
from clbench.optim import layers_of


def blocks_of(names: Sequence[str]) -> list[str]:
    """The blocks of a network, in order: residual or transformer blocks.

    Where modules are not numbered, every module that has parameters of its own is one.

    Args:
        names: of the trunk's parameters, in the model's order.

    >>> blocks_of(["pos_embed", "blocks.0.norm1.weight", "blocks.0.mlp.fc1.weight",
    ...            "blocks.1.norm1.weight", "norm.weight"])
    ['blocks.0', 'blocks.1']
    """
    layers = layers_of(names)
    inner = [
        layer
        for name, layer in zip(names, layers, strict=True)
        if name.removeprefix(f"{layer}.").count(".")
    ]
    found = list(dict.fromkeys(inner or layers))
    # What stands between the blocks of a stage's module, as downsampling does, is no block.
    return [block for block in found if not any(x.startswith(f"{block}.") for x in found)]


def frozen_names(names: Sequence[str], count: int) -> frozenset[str]:
    """The first blocks' parameters, and those of all that comes before them in the model's order.

    Args:
        names: of the trunk's parameters, in the model's order.
        count: blocks, at most as many as there are; 0: none.

    >>> names = ["stem.weight", "layer1.0.conv1.weight", "layer1.1.conv1.weight", "norm.bias"]
    >>> sorted(frozen_names(names, 1))
    ['layer1.0.conv1.weight', 'stem.weight']
    """
    if not count:
        return frozenset()
    last = blocks_of(names)[count - 1]
    layers = layers_of(names)
    end = max(i for i, layer in enumerate(layers) if layer == last)
    return frozenset(names[: end + 1])


class Freeze(Partial):
    """The first ``first`` blocks, and what comes before them, stay as they are in all tasks [0].

    That is the embedding or the stem too, and running statistics. Blocks are those of residual
    networks and transformers (12 in a ViT-B, 16 in a ResNet-50); of other networks the layers. A
    share is rounded down. Half of the blocks are no paper's setting: it is one to tune::

        methods: {freeze: {first: 6}}
    """

    summary: ClassVar[str] = "freeze the first blocks of the trunk"
    neutral: ClassVar[Mapping[str, float]] = {"first": 0}
    scope_means: ClassVar[str] = "the share of the trunk's weights that is frozen: raise first"

    first: int | float = Field(
        0.5, ge=0, description="blocks to freeze: a number (6), or a share below 1; 0 is off"
    )

    @field_validator("first")
    @classmethod
    def _a_number_or_a_share(cls, first: float) -> float:
        if isinstance(first, float) and first >= 1:
            raise ValueError("a share is below 1; a number of blocks has no point, as in 6")
        return first

    def count(self, blocks: int) -> int:
        """How many blocks are frozen, of so many; more than there are, if ``first`` says so."""
        return self.first if isinstance(self.first, int) else math.floor(self.first * blocks)

    def lacking(self, model: nn.Module, head: Sequence[str]) -> str:
        known = len(blocks_of(_plain(model, head)))
        wanted = self.count(known)
        if wanted > known:
            return f"is to freeze {wanted} blocks (first), and the network has {known}: say fewer"
        if self.first and not wanted:
            return f"is to freeze {self.first:g} of {known} blocks, which is none: raise first"
        return ""

    def chosen(self, model: nn.Module, head: Sequence[str]) -> frozenset[str]:
        # A weight with a parametrization (LoRA) comes later in its module, under other names.
        names = _plain(model, head)
        still = frozen_names(names, self.count(len(blocks_of(names))))
        trunk = (name for name, _ in model.named_parameters() if name not in head)
        return frozenset(name for name in trunk if _without(name) not in still)


def _plain(model: nn.Module, head: Collection[str]) -> list[str]:
    """Names of the trunk's parameters, in order, as in the network without parametrizations."""
    names = (_without(name) for name, _ in model.named_parameters() if name not in head)
    return list(dict.fromkeys(names))


def _without(name: str) -> str:
    """``conv.weight`` for a part of its parametrization, ``conv.parametrizations.weight.0.A``."""
    module, _, inner = name.partition(".parametrizations.")
    return f"{module}.{inner.partition('.')[0]}" if inner else name
