"""Sequential Fine-tuning with Averaging (SFA).

[0] Kleiman et al., *Soup to go: mitigating forgetting during continual learning with model
    averaging*, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field
from torch import nn

from clbench.methods.base import Context, Method, Needs
from clbench.models.anchors import Anchor, NewRows

if TYPE_CHECKING:
    from clbench.methods.plan import Plan


def averaging_steps(total_steps: int, p: float) -> list[int]:
    """The steps of a task after which SFA averages: every p·T steps, and the last one [0].

    Args:
        total_steps: optimiser steps of the task, T.
        p: averaging interval as a share of T. pT need not be whole: the k-th average is at step
            ``round(k·p·T)``; below one step, it is at every step.

    Returns:
        Step numbers in 1…T, ascending; the last is T.

    Raises:
        ValueError: if ``p`` is not in (0, 1] or ``total_steps`` is below 1.

    >>> averaging_steps(100, 0.4)
    [40, 80, 100]
    >>> averaging_steps(100, 1.0)
    [100]
    """
    if not 0 < p <= 1:
        raise ValueError(f"p must be in (0, 1], got {p}")
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}")
    interval = p * total_steps
    if interval <= 1:
        return list(range(1, total_steps + 1))
    steps = {total_steps}
    k = 1
    while (step := round(k * interval)) < total_steps:
        steps.add(step)
        k += 1
    return sorted(steps)


class SFA(Method):
    """Every p·T steps and at the end of a task: θ ← β·θ_o + (1 − β)·θ [0, Algorithm 1].

    θ_o are the weights at the end of the previous task, after its own averaging. The first task has
    none before it, so nothing is averaged in it; with ``start_at: 1`` θ_o are the pretrained ones
    there. ``p: 1`` is WiSE-FT against the previous task's weights.

    Rows of the head that θ_o never learned stay as they are trained. Algorithm 1 averages all of θ,
    with ``new_rows: average`` these too: with the rows that the task started from, which for a
    random head halves what a task's own rows have learned (β = 0.5).
    """

    summary: ClassVar[str] = "average with the previous task's weights during training"
    neutral: ClassVar[Mapping[str, float]] = {"beta": 0.0}
    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=1)
    averages: ClassVar[bool] = True
    counts_steps: ClassVar[bool] = True
    sooner: ClassVar[str] = "start_at: 1 averages with the pretrained weights"
    scope_means: ClassVar[str] = (
        "the learning rate that is left after its averages but the last, against a constant rate "
        "(where next to none is left, p hardly matters: say schedule.name: constant), or, if that "
        "is less, the share of θ_o in what all averages of a task mix (a larger beta)"
    )

    p: float = Field(0.98, gt=0, le=1, description="averaging interval, share of a task's steps")
    beta: float = Field(0.5, ge=0, le=1, description="weight of the previous task's weights")
    start_at: int = Field(
        2, ge=1, description="first task to average in, from 1; in task 1 θ_o are the pretrained"
    )
    new_rows: NewRows = Field(
        "keep",
        description="rows of the head that θ_o never learned: keep them as trained, or average "
        "(Algorithm 1 to the letter)",
    )

    @property
    def first_task(self) -> int:
        """The first task with an average, from 1."""
        return self.start_at

    _anchor: Anchor | None = None
    _head: tuple[str, ...] = ()
    _steps: frozenset[int] = frozenset()
    _activity: dict[str, float] = {}

    def start(self, context: Context) -> None:
        previous, self._head = context.anchors.previous, context.head
        self._anchor = previous.whole() if self.new_rows == "average" else previous
        active = context.task.index + 1 >= self.start_at and self.beta > 0
        self._steps = frozenset(averaging_steps(context.total_steps, self.p) if active else ())
        rows = float(self._anchor.learned.sum()) if active else 0.0
        self._activity = {"averages": 0.0, "averaged_head_rows": rows, "active": 0.0}

    def after_step(self, model: nn.Module, step: int) -> None:
        if step not in self._steps:
            return
        assert self._anchor is not None
        before = self._anchor.distance(model)
        self._anchor.pull(model, self.beta, self._head)
        after = self._anchor.distance(model)
        self._activity["averages"] += 1
        self._activity["active"] = float(self._activity["active"] or after != before)
        self._activity |= {"distance_before": before, "distance_after": after}

    def activity(self) -> dict[str, float]:
        return self._activity

    def scope(self, plan: Plan) -> float:
        """What is left of the learning rate after an average, against a constant one; at most 1.

        The mean over the averages but the last. A single one at the end, p = 1, is all of it. It is
        no more than the share of θ_o, 1 − (1 − β)ⁿ, that n averages of unchanging weights leave.
        """
        if not self.beta:  # it is inactive, which is said
            return 1.0
        steps = averaging_steps(plan.total_steps, self.p)
        mixed, during = 1 - (1 - self.beta) ** len(steps), steps[:-1]
        if not during:
            return mixed
        constant = fmean(1 - step / plan.total_steps for step in during)
        return min(mixed, fmean(map(plan.left, during)) / constant)
