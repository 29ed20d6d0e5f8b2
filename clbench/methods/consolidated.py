"""What methods share that keep each weight near θ_o by how much it matters: SI, MAS, RWalk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context
from clbench.methods.quadratic import Quadratic, free_new_rows
from clbench.weights import State


class Consolidated(Quadratic):
    """Adds λ·ΣΩ(θ − θ_o)², Ω how much each weight matters to the tasks before; abstract.

    θ_o is what the task starts from. Rows of the head that no task has learned are free: Ω is 0.
    """

    times: ClassVar[float] = 2.0

    strength: float = Field(1.0, ge=0, description="λ of λ·ΣΩ(θ − θ_o)²; 0 is off")

    def start(self, context: Context) -> None:
        super().start(context)
        self._centre = context.anchors.previous.state

    def _learn(self, context: Context) -> None:
        self._importance = self._taken_up(self._matters(context))
        free_new_rows(self._importance, context)

    @abstractmethod
    def _matters(self, context: Context) -> State:
        """How much each weight matters to the task that ends."""

    def _taken_up(self, found: State) -> State:
        """Ω after the task: the sum over all so far."""
        old = self._importance
        return {name: old[name] + x if name in old else x for name, x in found.items()}

    def state_dict(self) -> dict[str, object]:
        return {"importance": self._importance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._importance = dict(state["importance"])


class Followed(Consolidated):
    """Follows each weight's way and what the loss's gradient was along it; abstract.

    The gradient is that of the loss and of other methods' penalties, before it is clipped, without
    this one's own penalty. What other methods do to gradients or weights counts where they stand
    before it in the recipe.
    """

    #: Of the step: gradients, and weights before it; taken in place from step to step.
    _gradient: State = {}
    _before: State = {}

    @torch.no_grad()
    def project(self, model: nn.Module) -> None:
        """Take a copy of the gradients and weights; nothing is edited."""
        if self.strength == 0:
            return
        trained, gradients = dict[str, Tensor](), dict[str, Tensor]()
        for name, p in model.named_parameters():
            if p.grad is not None:
                trained[name], gradients[name] = p.detach(), p.grad
        if self._before.keys() != trained.keys():
            self._before = {name: torch.empty_like(p) for name, p in trained.items()}
            self._gradient = {name: torch.empty_like(p) for name, p in trained.items()}
        for part in _parts(trained):
            torch._foreach_copy_(_of(self._before, part), _of(trained, part))
            torch._foreach_copy_(_of(self._gradient, part), _of(gradients, part))
            if known := [n for n in part if n in self._importance]:
                apart = torch._foreach_sub(_of(self._before, known), _of(self._centre, known))
                torch._foreach_addcmul_(
                    _of(self._gradient, known),
                    _of(self._importance, known),
                    apart,
                    value=-2 * self.strength,
                )

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        if self.strength == 0:
            return
        now = {n: p.detach() for n, p in model.named_parameters() if n in self._before}
        for part in _parts(now):
            torch._foreach_sub_(_of(self._before, part), _of(now, part))
            self._follow(part)
        self._followed(now, step)

    @abstractmethod
    @torch.no_grad()
    def _follow(self, part: Sequence[str]) -> None:
        """Take up a step of some weights: ``_gradient`` is the loss's, ``_before`` the way back."""

    def _followed(self, now: State, step: int) -> None:
        """Look at all weights after a step."""


def _parts(state: Mapping[str, Tensor]) -> list[list[str]]:
    """Names to work on together: on a CPU one tensor at a time, while it is in the cache."""
    alone = all(x.device.type == "cpu" for x in state.values())
    return [[name] for name in state] if alone else [list(state)]


def _of(state: Mapping[str, Tensor], names: Sequence[str]) -> list[Tensor]:
    return [state[name] for name in names]
