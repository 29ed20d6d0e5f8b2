"""What methods share that keep each weight near θ_o by how much it matters: SI, MAS, RWalk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context, Forward, Method, Needs
from clbench.methods.penalty import GRADIENT_SHARE, l2_penalty, penalty_activity
from clbench.models.anchors import Anchor, named_weights
from clbench.weights import State


class Consolidated(Method):
    """Adds λ·ΣΩ(θ − θ_o)², Ω how much each weight matters to the tasks before; abstract.

    θ_o is what the task starts from. Rows of the head that no task has learned are free: Ω is 0.
    """

    neutral: ClassVar[Mapping[str, float]] = {"strength": 0.0}
    needs: ClassVar[Needs] = Needs(past_tasks=True, task_boundaries=True, copies=2)
    scope_means: ClassVar[str] = GRADIENT_SHARE
    pure_penalty: ClassVar[bool] = True

    strength: float = Field(1.0, ge=0, description="λ of λ·ΣΩ(θ − θ_o)²; 0 is off")

    #: Ω, by the names of the plain network's parameters.
    _importance: State = {}
    _anchor: Anchor | None = None
    _last: Tensor | None = None
    _activity: dict[str, float] = {}

    def start(self, context: Context) -> None:
        self._anchor, self._last = context.anchors.previous, None
        self._importance = {name: x.to(context.device) for name, x in self._importance.items()}

    def penalty(self, forward: Forward) -> Tensor | None:
        return self._at(forward.model)

    def _at(self, model: nn.Module) -> Tensor | None:
        if self.strength == 0 or not self._importance:
            return None
        assert self._anchor is not None
        weighed = [
            (name, weight)
            for name, weight in named_weights(model)
            if weight.requires_grad and name in self._importance
        ]
        if not weighed:
            return None
        value = l2_penalty(
            [weight for _, weight in weighed],
            [self._anchor.state[name] for name, _ in weighed],
            2 * self.strength,
            [self._importance[name] for name, _ in weighed],
        )
        self._last = value.detach()
        return value

    def finish(self, context: Context) -> None:
        last = self._last
        self._activity = penalty_activity(self._at(context.model), context.model, last)
        if self.strength == 0:
            return
        self._importance = self._taken_up(self._matters(context))
        for name in context.head:
            self._importance[name][~context.seen_C] = 0

    @abstractmethod
    def _matters(self, context: Context) -> State:
        """How much each weight matters to the task that ends."""

    def _taken_up(self, found: State) -> State:
        """Ω after the task: the sum over all so far."""
        old = self._importance
        return {name: old[name] + x if name in old else x for name, x in found.items()}

    def activity(self) -> dict[str, float]:
        return self._activity

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

    #: Of the step: gradients, and weights before it.
    _gradient: State = {}
    _before: State = {}

    def project(self, model: nn.Module) -> None:
        """Take a copy of the gradients and weights; nothing is edited."""
        if self.strength == 0:
            return
        trained = {n: p for n, p in model.named_parameters() if p.grad is not None}
        self._before = {name: p.detach().clone() for name, p in trained.items()}
        self._gradient = {name: p.grad.clone() for name, p in trained.items()}  # type: ignore[union-attr]
        if self._importance:
            assert self._anchor is not None
            for name in self._gradient.keys() & self._importance.keys():
                apart = self._before[name] - self._anchor.state[name]
                self._gradient[name] -= 2 * self.strength * self._importance[name] * apart

    def after_step(self, model: nn.Module, step: int) -> None:
        if self.strength == 0:
            return
        now = {n: p.detach() for n, p in model.named_parameters() if n in self._before}
        self._follow(self._gradient, self._before, now, step)

    @abstractmethod
    @torch.no_grad()
    def _follow(self, gradient: State, before: State, now: State, step: int) -> None:
        """Take up a step: the loss's gradient, and the weights before and after it, by name."""
