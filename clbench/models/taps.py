"""What the blocks of a network give while it is trained, without a pass of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def spread_blocks(model: nn.Module, head: Sequence[str], count: int) -> list[str]:
    """Names of blocks at equal distances, the last among them.

    Blocks are those that timm tells features of (``feature_info``: all of a ViT, the stages of a
    CNN), else the network's own children but for the head.

    Args:
        model: the network.
        head: names of the head's parameters.
        count: how many, at most.
    """
    known = {name for name, _ in model.named_modules()} - {""}
    told = getattr(model, "feature_info", None) or []
    names = [str(one.get("module")) for one in told if isinstance(one, dict)]
    names = [name for name in names if name in known]
    names = names or [n for n, _ in model.named_children() if n != head[0].partition(".")[0]]
    count = min(count, len(names))
    return [names[round(k * len(names) / count) - 1] for k in range(1, count + 1)]


class Taps:
    """Keeps what blocks give in passes through a network, until it is asked for; final.

    Copies of the network keep nothing.

    Args:
        model: the network.
        names: of its blocks.
        training: passes with gradients are kept, and known by their inputs; or those without.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], training: bool) -> None:
        kept: list[tuple[Tensor, list[Tensor]]] = []
        found: list[Tensor] = []
        blocks = [model.get_submodule(name) for name in names]

        # Functions, as a copy of the network would come with a copy of an object's methods.
        def keep(block: nn.Module, inputs: Any, output: Any) -> None:
            if torch.is_grad_enabled() == training and any(block is own for own in blocks):
                found.append(output)

        def close(network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if training and torch.is_grad_enabled() and network is model:
                # What is before the pass's own is of blocks that were asked by themselves.
                kept.append((inputs[0], found[-len(blocks) :]))
                found.clear()

        self._kept, self._found, self._count = kept, found, len(blocks)
        self._hooks = [block.register_forward_hook(keep) for block in blocks]
        self._hooks.append(model.register_forward_hook(close))

    def of(self, inputs: Tensor) -> list[Tensor] | None:
        """What the blocks gave for ``inputs``, and nothing is kept any more; None: no such pass."""
        given = next((blocks for images, blocks in self._kept if images is inputs), None)
        self._kept.clear()
        return given

    def last(self) -> list[Tensor]:
        """What each block gave last, since they were asked."""
        given = self._found[-self._count :]
        self._found.clear()
        return given

    def remove(self) -> None:
        """Leave the network alone."""
        for hook in self._hooks:
            hook.remove()
        self._kept.clear()
        self._found.clear()
