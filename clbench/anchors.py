"""Anchors: the weights that methods stay near, θ_* (pretrained) and θ_o (previous task)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clbench.weights import State


@dataclass(frozen=True)
class Anchor:
    """Weights to stay near.

    Attributes:
        state: a state dict, on the training device.
        learned: bool (C,), the rows of the head that were trained on these weights. Other rows
            hold nothing worth staying near: averages and penalties leave them out.
    """

    state: State
    learned: Tensor

    @torch.no_grad()
    def pull(self, model: nn.Module, amount: float, head: Sequence[str]) -> None:
        """Move a model towards the anchor in place: θ ← amount·anchor + (1 − amount)·θ.

        Running statistics move along; counters and rows of the head that the anchor never
        learned stay.

        Args:
            model: the network; its state dict has the anchor's names.
            amount: in [0, 1].
            head: names of the head's parameters.
        """
        state = model.state_dict()
        body = [name for name, x in state.items() if x.is_floating_point() and name not in head]
        torch._foreach_lerp_(
            [state[name] for name in body], [self.state[name] for name in body], amount
        )
        rows = self.learned
        for name in head:
            state[name][rows] = torch.lerp(state[name][rows], self.state[name][rows], amount)

    @torch.no_grad()
    def distance(self, model: nn.Module) -> float:
        """Euclidean distance ‖θ − anchor‖₂ over the model's parameters."""
        pairs = [(p, self.state[name]) for name, p in model.named_parameters()]
        differences = torch._foreach_sub([p for p, _ in pairs], [a for _, a in pairs])
        return float(torch.stack(torch._foreach_norm(differences)).norm())


@dataclass(frozen=True)
class Anchors:
    """The two anchors, held once for all methods."""

    pretrained: Anchor
    previous: Anchor
