"""DARE: most of what training changed is dropped at random, and the rest made larger.

[0] Yu et al., *Language models are super Mario: absorbing abilities from homologous models as a
    free lunch*, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context, Method, Needs
from clbench.methods.statements import Swept
from clbench.seeding import generator
from clbench.weights import State, is_statistic, trunk_distance

if TYPE_CHECKING:
    from clbench.methods.plan import Plan


def drop_and_rescale(change: Tensor, kept: Tensor, drop: float) -> Tensor:
    """The entries of a change that are kept, divided by 1 − p [0, eq. 3].

    Args:
        change: θ − θ_*, of any shape.
        kept: bool, of its shape.
        drop: p, the probability with which an entry is dropped, in [0, 1).

    >>> drop_and_rescale(torch.tensor([1.0, 2.0]), torch.tensor([True, False]), 0.5)
    tensor([2., 0.])
    """
    return change * kept / (1 - drop)


class DARE(Method):
    """Shows θ_* + m∘(θ − θ_*)/(1 − p), each entry of m 0 with probability p [0].

    The next task goes on from θ. The head is as trained, running statistics too. Before a method
    that merges tasks it thins what each of them changed, as in [0]::

        methods: {dare: {drop: 0.9}, task_arithmetic: {scale: 0.3}}

    Other p are a sweep over a finished run.
    """

    summary: ClassVar[str] = "drop entries of the change from θ_* at random, rescale the others"
    neutral: ClassVar[Mapping[str, float]] = {"drop": 0.0}
    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=1)
    averages: ClassVar[bool] = True  # so that statistics can be fitted to the weights that are left
    scope_means: ClassVar[str] = "the share of entries that are dropped: raise drop"
    swept: ClassVar[Mapping[str, Swept]] = {"drop": Swept(0.0, (0.0,))}

    drop: float = Field(0.9, ge=0, lt=1, description="p, share of entries that are dropped")

    _told: dict[str, float] = {"active": 0.0}

    @property
    def carries(self) -> bool:
        return False

    def deploy(self, theta: State, context: Context) -> State:
        base, random = context.anchors.pretrained.state, generator(context.seed, 9)
        changed = {}
        for name in sorted(theta) if self.drop else ():
            x = theta[name]
            if name in context.head or is_statistic(name) or not x.is_floating_point():
                continue
            kept = (torch.rand(x.shape, generator=random) >= self.drop).to(x.device)
            start = base[name].to(x.device)
            changed[name] = start + drop_and_rescale(x - start, kept, self.drop)
        moved = trunk_distance(theta, theta | changed, context.head)
        self._told = {"active": float(moved > 0), "distance_moved": moved}
        return theta | changed

    def activity(self) -> dict[str, float]:
        return self._told

    def scope(self, plan: Plan) -> float:
        """The share of entries that are dropped, p."""
        return self.drop
