"""Anchors: the weights that methods stay near, θ_* (pretrained) and θ_o (previous task)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from clbench.errors import ClbenchError
from clbench.weights import State, recorded_distance

#: Rows of the head that the anchor never learned, in an average: as they were trained, or averaged
#: with the anchor's own, untrained ones.
NewRows = Literal["keep", "average"]


@dataclass(frozen=True)
class Anchor:
    """Weights to stay near.

    Attributes:
        state: a state dict, on the training device.
        learned: bool (C,), the rows of the head that were trained on these weights. Other rows
            hold nothing worth staying near: penalties leave them out, and averages unless told.
    """

    state: State
    learned: Tensor

    @cached_property
    def rows(self) -> Tensor:
        """int64, the numbers of the learned rows; found once, as that waits for a GPU."""
        return self.learned.nonzero()[:, 0]

    def whole(self) -> Anchor:
        """The same weights, with all rows of the head among those to average, learned or not."""
        return replace(self, learned=torch.ones_like(self.learned))

    @torch.no_grad()
    def pull(self, model: nn.Module, amount: float, head: Sequence[str]) -> None:
        """Move a model towards the anchor in place: θ ← amount·anchor + (1 − amount)·θ.

        Running statistics move along; counters and rows of the head that the anchor never
        learned stay.

        Args:
            model: the network; its state dict has the anchor's names.
            amount: in [0, 1].
            head: names of the head's parameters.

        Raises:
            ClbenchError: if weights are parametrized, so that there is nothing to move in place.
        """
        state = model.state_dict()
        if any(".parametrizations." in name for name in state):
            raise ClbenchError(
                "weights that are a base and an update (LoRA) cannot be moved towards others in "
                "training: leave the low-rank method out, or average after the task (wise_ft)"
            )
        body = [name for name, x in state.items() if x.is_floating_point() and name not in head]
        if body:
            torch._foreach_lerp_(
                [state[name] for name in body], [self.state[name] for name in body], amount
            )
        rows = self.rows
        for name in head:
            state[name][rows] = torch.lerp(state[name][rows], self.state[name][rows], amount)

    def distance(self, model: nn.Module) -> float:
        """Euclidean distance ‖θ − anchor‖₂ over the model's parameters."""
        weights = dict(named_weights(model))
        return recorded_distance(list(weights.values()), [self.state[name] for name in weights])


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights a network computes with, under the names of the plain network.

    For a module with ``torch.nn.utils.parametrizations`` (LoRA) these are the effective weights,
    through which gradients flow; elsewhere the parameters themselves.
    """
    for name, parameter in model.named_parameters():
        if ".parametrizations." not in f".{name}":
            yield name, parameter
    for prefix, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for name in module.parametrizations:  # type: ignore[union-attr]
                yield f"{prefix}.{name}", getattr(module, name)


@dataclass(frozen=True)
class Anchors:
    """The two anchors, held once for all methods."""

    pretrained: Anchor
    previous: Anchor
