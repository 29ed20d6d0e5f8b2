"""Synaptic Intelligence (SI): weights matter by what their way has taken off the loss.

[0] Zenke et al., *Continual learning through synaptic intelligence*, eqs. 3 to 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context, Needs
from clbench.methods.consolidated import Followed
from clbench.weights import State


def path_importance(omega: Tensor, moved: Tensor, xi: float) -> Tensor:
    """ω/(Δ² + ξ), how much a weight matters to a task [0, eq. 5].

    Args:
        omega: ω = −Σ g·(θ after − θ before) over the steps of a task.
        moved: Δ, the weight's whole way in the task, of the same shape.
        xi: ξ, above 0.

    >>> path_importance(torch.tensor([0.5]), torch.tensor([0.3]), 0.01)
    tensor([5.])
    """
    return omega / (moved.square() + xi)


class SI(Followed):
    """Adds c·ΣΩ(θ − θ_o)², Ω = Σ_tasks ω/(Δ² + ξ), ω = −Σ g·δ along the task's steps [0].

    No pass and no data beyond training are needed. ω below 0 is where the loss rose along the way;
    kept, as in [0], it pushes a weight away from θ_o. There is no penalty in the first task::

        methods: {si: {strength: 0.5, xi: 0.1}}
    """

    summary: ClassVar[str] = "quadratic penalty weighted by what each weight took off the loss"
    needs: ClassVar[Needs] = Needs(past_tasks=True, task_boundaries=True, copies=7)

    strength: float = Field(0.1, ge=0, description="c of c·ΣΩ(θ − θ_o)²; 0 is off")
    xi: float = Field(0.1, gt=0, description="ξ, damps what weights that hardly moved count")
    negative: Literal["keep", "drop"] = Field(
        "keep", description="ω below 0: keep (the paper), or drop, so that nothing is pushed away"
    )

    #: ω so far in the task, and the weights that it began with.
    _omega: State = {}
    _began: State = {}

    def start(self, context: Context) -> None:
        super().start(context)
        self._omega = {}
        self._began = {n: p.detach().clone() for n, p in context.model.named_parameters()}

    @torch.no_grad()
    def _follow(self, part: Sequence[str]) -> None:
        for name in part:
            if name not in self._omega:
                self._omega[name] = torch.zeros_like(self._before[name])
        omega, gradient, back = (
            [of[name] for name in part] for of in (self._omega, self._gradient, self._before)
        )
        torch._foreach_addcmul_(omega, gradient, back)

    def _matters(self, context: Context) -> State:
        found = {}
        for name, p in context.model.named_parameters():
            omega = self._omega.get(name, torch.zeros_like(p))
            if self.negative == "drop":
                omega = omega.clamp(min=0)
            found[name] = path_importance(omega, p.detach() - self._began[name], self.xi)
        self._omega, self._began, self._before, self._gradient = {}, {}, {}, {}
        return found
