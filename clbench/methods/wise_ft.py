"""WiSE-FT: average the weights after training with those before.

[0] Wortsman et al., *Robust fine-tuning of zero-shot models*, equation 1: a weight-space ensemble
    with mixing coefficient α.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context, Method, Needs
from clbench.methods.statements import Swept
from clbench.models.anchors import Anchor, NewRows
from clbench.weights import State, Vector, lerp, trunk_distance

if TYPE_CHECKING:
    from clbench.methods.plan import Plan


def interpolate(pretrained: Vector, tuned: Vector, alpha: float) -> Vector:
    """The weights α·tuned + (1 − α)·pretrained [0, eq. 1]; exact at α = 0 and α = 1.

    Args:
        pretrained: a tensor of any shape, or a state dict.
        tuned: the same structure and shapes.
        alpha: share of the tuned weights, in [0, 1].

    Returns:
        New weights of the tuned ones' type. Entries that are not floating point (counters) are
        the tuned ones; running statistics are averaged like weights.

    Raises:
        ValueError: if ``alpha`` is outside [0, 1], or names or shapes differ.

    >>> import torch
    >>> interpolate(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 4.0]), 0.25)
    tensor([0.2500, 2.5000])
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    return lerp(tuned, pretrained, 1 - alpha)


class WiSEFT(Method):
    """After a task: θ ← α·θ_tuned + (1 − α)·θ_anchor [0, eq. 1].

    Rows of the head that the anchor never learned are taken from the tuned weights as they are,
    unless ``new_rows`` says otherwise. ``alpha: 1`` is plain fine-tuning. With ``anchor: previous``
    and ``carry_on: true`` this is SFA with p = 1 and β = 1 − α.
    """

    summary: ClassVar[str] = "average the tuned weights with the pretrained ones after a task"
    neutral: ClassVar[Mapping[str, float]] = {"alpha": 1.0}
    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=1)
    averages: ClassVar[bool] = True
    swept: ClassVar[Mapping[str, Swept]] = {"alpha": Swept(neutral=1.0, pure=(0.0, 1.0))}
    sooner: ClassVar[str] = "start_at: 1 averages with the pretrained weights"
    scope_means: ClassVar[str] = "the anchor's share of the average: lower alpha"

    alpha: float = Field(0.5, ge=0, le=1, description="share of the tuned weights")
    anchor: Literal["pretrained", "previous"] = Field(
        "pretrained", description="averaged with: the pretrained weights, or the previous task's"
    )
    carry_on: bool = Field(
        False, description="start the next task from the average, not from the tuned weights"
    )
    start_at: int | None = Field(
        None,
        ge=1,
        description="first task to average in, from 1; default: 1 with the pretrained weights, 2 "
        "with the previous task's",
    )
    new_rows: NewRows = Field(
        "keep",
        description="rows of the head that the anchor never learned: keep as tuned, or average",
    )

    _activity: dict[str, float] = {"active": 0.0}

    @property
    def carries(self) -> bool:
        return self.carry_on

    @property
    def looks_back(self) -> str:
        return "anchor: previous" if self.anchor == "previous" else ""

    @property
    def needs_training(self) -> str:
        if not self.carry_on:
            return ""
        return (
            "with carry_on every task was trained from the average before it, so another alpha "
            "needs training: run again with carry_on: false"
        )

    @property
    def first_task(self) -> int:
        """The first task with an average, from 1."""
        return self.start_at or (1 if self.anchor == "pretrained" else 2)

    def deploy(self, theta: State, context: Context) -> State:
        if self.alpha == 1 or context.task.index + 1 < self.first_task:
            self._activity = {"active": 0.0, "averaged_head_rows": 0.0, "distance_moved": 0.0}
            return theta
        anchor: Anchor = getattr(context.anchors, self.anchor)
        if self.new_rows == "average":
            anchor = anchor.whole()
        averaged = towards(anchor, theta, self.alpha, context.head)
        self._activity = {
            "active": float(any(not torch.equal(x, averaged[n]) for n, x in theta.items())),
            "averaged_head_rows": float(anchor.learned.sum()),
            "distance_moved": trunk_distance(theta, averaged, context.head),
        }
        return averaged

    def activity(self) -> dict[str, float]:
        return self._activity

    def scope(self, plan: Plan) -> float:
        """The anchor's share of the average, 1 − α."""
        return 1 - self.alpha


def towards(anchor: Anchor, tuned: State, alpha: float, head: tuple[str, ...]) -> State:
    """:func:`interpolate` with an anchor, leaving alone the head's rows it never learned.

    Args:
        anchor: the weights at α = 0.
        tuned: the weights at α = 1, a plain network's state dict.
        alpha: share of the tuned weights, in [0, 1].
        head: names of the head's parameters.
    """
    pretrained = {name: anchor.state[name].to(x.device) for name, x in tuned.items()}
    averaged = dict(interpolate(pretrained, tuned, alpha))
    for name in head:
        rows: Tensor = ~anchor.learned.to(tuned[name].device)
        averaged[name][rows] = tuned[name][rows]
    return averaged
