"""Slow learner: the trunk learns at a fraction of the head's rate, one half of SLCA.

[0] Zhang et al., *SLCA: slow learner with classifier alignment for continual learning on a
    pre-trained model*, section 4.1. The other half is :mod:`clbench.methods.align_head`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from clbench.methods.base import Context, Method

if TYPE_CHECKING:
    from clbench.methods.plan import Plan


def trunk_rate(name: str, head: Collection[str], factor: float) -> float:
    """The factor of a parameter's rate: 1 in the head, ``factor`` elsewhere [0].

    >>> trunk_rate("fc.bias", ("fc.weight", "fc.bias"), 0.01)
    1.0
    """
    return 1.0 if name in head else factor


class SlowTrunk(Method):
    """The trunk's rate is η·``factor``, the head's η, in all tasks [0]; η is ``optimizer.lr``.

    Whatever is not the head is trunk: prompts and the factors of LoRA too. SLCA itself, with the
    rates of [0], is::

        methods: {slow_trunk: {factor: 0.01}, align_head: {}}
        optimizer: {name: sgd, lr: 0.01, momentum: 0.9, weight_decay: 0.0005}
    """

    summary: ClassVar[str] = "a lower rate for the trunk than for the head (SLCA's slow learner)"
    neutral: ClassVar[Mapping[str, float]] = {"factor": 1.0}
    scope_means: ClassVar[str] = "the share of the trunk's rate that is taken away: lower factor"
    clashes: ClassVar[Mapping[str, str]] = {
        "linear_probe": "the trunk is frozen, and has no rate to lower"
    }

    factor: float = Field(
        0.01, gt=0, le=1, description="the trunk's rate as a share of the head's; 1 is off"
    )

    _head: tuple[str, ...] = ()

    def start(self, context: Context) -> None:
        self._head = context.head

    def rate(self, name: str) -> float:
        return trunk_rate(name, self._head, self.factor)

    def activity(self) -> dict[str, float]:
        return {"active": float(self.factor < 1), "factor": self.factor}

    def scope(self, plan: Plan) -> float:
        """The share of the trunk's rate that is taken away, 1 − factor."""
        return 1 - self.factor
