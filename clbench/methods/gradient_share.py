"""What share of the gradient a penalty has, looked at in a few steps of a task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clbench.methods.base import Forward, Method

#: Steps of a task that are looked at.
LOOKS = 8


def looks(total_steps: int, count: int = LOOKS) -> frozenset[int]:
    """Steps at equal distances up to the last, from 1.

    The first is not among them unless there are few: where a task starts at the anchor, its
    penalty has no gradient there, whatever its strength.

    >>> sorted(looks(80))
    [10, 20, 30, 40, 50, 60, 70, 80]
    """
    count = min(count, total_steps)
    return frozenset(round(k * total_steps / count) for k in range(1, count + 1))


class GradientShares:
    """Shares Σp·p/(Σp·p + Σ|p·(g − p)|), p a penalty's gradient and g that of the whole loss.

    What counts of the rest of the loss is what goes along p: a mini-batch's noise goes everywhere,
    and would make a penalty look small that decides in its own direction. Sums are over the steps
    that are looked at. Where push and pull are in balance it is one half.

    A penalty is computed once more to know p alone. Nothing that training computes is changed.

    Args:
        methods: that bring a penalty; one that may do more than compute is passed over (see
            `Method.pure_penalty`).
        total_steps: of the task.
    """

    def __init__(self, methods: Sequence[Method], total_steps: int) -> None:
        self.methods = [method for method in methods if method.pure_penalty]
        self.steps = looks(total_steps) if self.methods else frozenset()
        self._found: dict[int, list[Tensor]] = {}

    def look(self, forward: Forward) -> None:
        """Compare, if it is the time; gradients are complete, and nobody has edited them.

        Args:
            forward: of the step's last batch. Its model has the gradients of the whole loss; its
                own have been gone through.
        """
        if forward.step not in self.steps:
            return
        trained = [p for p in forward.model.parameters() if p.requires_grad and p.grad is not None]
        for method in self.methods:
            with torch.enable_grad():
                penalty = method.penalty(forward)
            if penalty is None or not penalty.requires_grad:
                continue
            own = torch.autograd.grad(penalty, trained, allow_unused=True)
            self._found.setdefault(id(method), []).append(_along(trained, own))

    def of(self, method: Method) -> float | None:
        """The share over the steps that were looked at; None where there was no penalty."""
        found = [x for x in self._found.get(id(method), ()) if x.isfinite().all()]
        if not found:
            return None
        pull, push = torch.stack(found).double().sum(0).tolist()
        return pull / (pull + push) if pull or push else 0.0


@torch.no_grad()
def _along(trained: Sequence[nn.Parameter], own: Sequence[Tensor | None]) -> Tensor:
    """(p·p, |p·(g − p)|) of a part ``own`` of the gradients of parameters, as a (2,)."""
    found = torch.zeros(2, device=trained[0].device)
    for parameter, part in zip(trained, own, strict=True):
        assert parameter.grad is not None
        if part is not None:
            rest = parameter.grad - part
            found = found + torch.stack([(part * part).sum(), (part * rest).sum()])
    return found.abs()
