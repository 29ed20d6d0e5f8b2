"""ℓ2-SP: the trunk is kept near its pretrained weights, the head near zero.

[0] Li et al., *Explicit inductive bias for transfer learning with convolutional networks*, eq. 2.
[1] The authors' program, whose script has α = 0.1 and β = 0.01.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context, Forward, Method, Needs
from clbench.methods.penalty import GRADIENT_SHARE, l2_penalty, matched, penalty_activity
from clbench.models.anchors import Anchor
from clbench.models.loss import ClassLoss


def starting_point_penalty(
    trunk: Sequence[Tensor],
    start: Sequence[Tensor],
    head: Sequence[Tensor],
    alpha: float,
    beta: float,
) -> Tensor:
    """(α/2)‖w − w_*‖² + (β/2)‖v‖², eq. 2 of [0].

    Args:
        trunk: w, tensors of any shapes; none where the trunk is frozen.
        start: w_*, of the same shapes.
        head: v.
        alpha: α, at least 0.
        beta: β, at least 0.

    Returns:
        A scalar () that can be differentiated once.

    Raises:
        ValueError: if α or β is negative, or ``head`` is empty.

    >>> one, two = torch.tensor([1.0]), torch.tensor([2.0])
    >>> starting_point_penalty([two], [one], [two], alpha=0.5, beta=0.5)
    tensor(1.2500)
    """
    total = l2_penalty(head, [torch.zeros_like(x) for x in head], beta)
    return total + l2_penalty(trunk, start, alpha) if trunk else total


class L2SP(Method):
    """Adds (α/2)‖w − w_*‖² for the trunk's weights w and (β/2)‖v‖² for the head's v [0].

    w_* is θ_* in every task: what is kept is the pretraining, not the tasks. v are the rows of the
    head that are trained. All parameters of the trunk count; [1] has a mode for that, and leaves
    biases and norms out otherwise. It stands in for weight decay, which would act beside it::

        methods: {l2_sp: {alpha: 0.1, beta: 0.01}}
        optimizer: {name: sgd, lr: 0.005, momentum: 0.9, weight_decay: 0}
    """

    summary: ClassVar[str] = "quadratic penalty: the trunk towards θ_*, the head towards zero"
    neutral: ClassVar[Mapping[str, float]] = {"alpha": 0.0, "beta": 0.0}
    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=1)
    scope_means: ClassVar[str] = f"{GRADIENT_SHARE} (alpha)"
    pure_penalty: ClassVar[bool] = True

    alpha: float = Field(0.1, ge=0, description="α of (α/2)‖w − w_*‖² for the trunk; 0 is off")
    beta: float = Field(0.01, ge=0, description="β of (β/2)‖v‖² for the head; 0 is off")

    _start: Anchor | None = None
    _head: tuple[str, ...] = ()
    _losses: ClassLoss | None = None
    _rows_K: Tensor | None = None
    _last: Tensor | None = None
    _activity: dict[str, float] = {}

    def start(self, context: Context) -> None:
        anchor = context.anchors.pretrained
        self._start = replace(anchor, learned=torch.zeros_like(anchor.learned))  # the trunk alone
        self._head, self._losses = context.head, context.losses
        self._rows_K = self._last = None

    def penalty(self, forward: Forward) -> Tensor | None:
        return self._at(forward.model)

    def _at(self, model: nn.Module) -> Tensor | None:
        if not self.alpha and not self.beta:
            return None
        assert self._start is not None
        assert self._losses is not None
        pairs = matched(model, self._start, self._head)
        if self._rows_K is None:  # methods that start later may release some
            self._rows_K = (~self._losses.idle).nonzero().flatten()
        parameters = dict(model.named_parameters())
        head = [parameters[name][self._rows_K] for name in self._head]
        trunk, start = [weight for weight, _ in pairs], [centre for _, centre in pairs]
        value = starting_point_penalty(trunk, start, head, self.alpha, self.beta)
        self._last = value.detach()
        return value

    def finish(self, context: Context) -> None:
        last = self._last
        self._activity = penalty_activity(self._at(context.model), context.model, last)
        self._start = self._losses = self._rows_K = None

    def activity(self) -> dict[str, float]:
        return self._activity
