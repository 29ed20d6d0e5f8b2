"""What methods share that keep weights near earlier ones, each by a number of its own."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from clbench.methods.base import Context, Needs
from clbench.methods.penalty import Penalising, l2_penalty
from clbench.models.anchors import named_weights
from clbench.weights import State


class Quadratic(Penalising):
    """Adds (a·λ/2)·(ΣF(θ − c)² + a constant) to the loss; abstract.

    F and c are of past tasks; weights without an F are free, and so is all in the first task.
    """

    needs: ClassVar[Needs] = Needs(past_tasks=True, task_boundaries=True, copies=2)

    #: a, as papers write λ/2 or λ.
    times: ClassVar[float] = 1.0

    #: By the names of the plain network's parameters: F, and c.
    _importance: State = {}
    _centre: State = {}
    _constant: float = 0.0

    def start(self, context: Context) -> None:
        super().start(context)
        self._importance = {name: x.to(context.device) for name, x in self._importance.items()}

    def _value(self, model: nn.Module) -> Tensor | None:
        known = self._importance
        named = [(n, w) for n, w in named_weights(model) if w.requires_grad and n in known]
        if not named:
            return None
        strength = self.times * self.strength
        centres, factors = ([of[name] for name, _ in named] for of in (self._centre, known))
        value = l2_penalty([weight for _, weight in named], centres, strength, factors)
        return value + strength / 2 * self._constant if self._constant else value


def free_new_rows(importance: State, context: Context) -> None:
    """Put what matters of the head's rows that no task has learned to 0, in place."""
    for name in context.head:
        importance[name][~context.seen_C] = 0
