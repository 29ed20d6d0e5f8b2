"""Riemannian Walk (RWalk): the Fisher information, and what each weight's way gained by it.

[0] Chaudhry et al., *Riemannian walk for incremental learning: understanding forgetting and
    intransigence*, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context, Needs
from clbench.methods.consolidated import Followed
from clbench.weights import State


def gained(loss: Tensor, fisher: Tensor, moved: Tensor) -> Tensor:
    """What a weight took off the loss for each unit of its way: ΔL/(½F·Δ² + ε) [0].

    Args:
        loss: ΔL = −Σ g·(θ after − θ before) over some steps.
        fisher: F, at their end.
        moved: Δ, the way over these steps.
    """
    return loss / (fisher * moved.square() / 2 + torch.finfo(loss.dtype).eps)


def scaled_sum(fisher: State, scores: State) -> State:
    """F/max F + max(s, 0)/max s, each maximum over all weights [0, eq. 9]; in 0…2."""

    def most(parts: State) -> Tensor:
        largest = torch.stack([x.max() for x in parts.values()]).max()
        return torch.where(largest > 0, largest, 1.0)

    top, best = most(fisher), most(scores)
    return {name: f / top + scores[name].clamp(min=0) / best for name, f in fisher.items()}


class RWalk(Followed):
    """Adds λ·Σ(F + s)(θ − θ_o)², both parts scaled to a largest entry of 1 [0].

    F is a moving average of squared gradients over all tasks, s the mean of the scores before and
    those of the task, each the sum over every δ steps of ΔL/(½F·Δ² + ε). Squared are gradients of
    batches, as in Avalanche. The first task has no penalty::

        methods: {rwalk: {strength: 10, every: 10}}
    """

    summary: ClassVar[str] = "quadratic penalty by Fisher information and what each weight gained"
    needs: ClassVar[Needs] = Needs(past_tasks=True, task_boundaries=True, copies=11)

    strength: float = Field(0.1, ge=0, description="λ of λ·Σ(F + s)(θ − θ_o)²; 0 is off")
    alpha: float = Field(0.9, ge=0, le=1, description="α, of a step's squared gradient in F")
    every: int = Field(10, ge=1, description="δ, steps between two looks at the way")

    _fisher: State = {}
    _scores: State = {}
    #: Of the task: scores; since the last look: what came off the loss, and the weights then.
    _found: State = {}
    _loss: State = {}
    _then: State = {}

    def start(self, context: Context) -> None:
        super().start(context)
        self._fisher = {name: x.to(context.device) for name, x in self._fisher.items()}
        self._then = {n: p.detach().clone() for n, p in context.model.named_parameters()}
        self._found = {name: torch.zeros_like(x) for name, x in self._then.items()}
        self._loss = {name: torch.zeros_like(x) for name, x in self._then.items()}

    @torch.no_grad()
    def _follow(self, part: Sequence[str]) -> None:
        for name in part:
            square, old = self._gradient[name].square(), self._fisher.get(name)
            self._fisher[name] = square if old is None else torch.lerp(old, square, self.alpha)
            self._loss[name].addcmul_(self._gradient[name], self._before[name])

    def _followed(self, now: State, step: int) -> None:
        if step % self.every == 0:
            self._look(now)

    def _look(self, now: State) -> None:
        for name, x in now.items():
            moved = x - self._then[name]
            self._found[name] += gained(self._loss[name], self._fisher[name], moved)
            self._then[name] = x.clone()
            self._loss[name].zero_()

    def _matters(self, context: Context) -> State:
        """This task's scores."""
        now = {n: p.detach() for n, p in context.model.named_parameters() if n in self._fisher}
        self._look(now)  # what is left of the steps; where nothing moved it adds nothing
        found, self._then, self._loss, self._found = self._found, {}, {}, {}
        self._before, self._gradient = {}, {}
        return found

    def _taken_up(self, found: State) -> State:
        if self._scores:
            old = {name: self._scores.get(name, x).to(x) for name, x in found.items()}
            found = {name: (old[name] + x) / 2 for name, x in found.items()}
        self._scores = found
        fisher = {n: self._fisher.get(n, torch.zeros_like(x)) for n, x in found.items()}
        return scaled_sum(fisher, found)

    def state_dict(self) -> dict[str, object]:
        return super().state_dict() | {"fisher": self._fisher, "scores": self._scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._fisher, self._scores = dict(state["fisher"]), dict(state["scores"])
