"""EMA: the moving average of the weights along the way of training.

[0] Polyak & Juditsky, *Acceleration of stochastic approximation by averaging*.
[1] Soutif-Cormerais et al., *Improving online continual learning performance and stability with
    temporal ensembles*: an average over the whole stream, which is evaluated alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from clbench.errors import ClbenchError
from clbench.methods.base import Context, Method, Needs, overriding
from clbench.models.average import MovingAverage, warmed_up
from clbench.weights import State, snapshot, trunk_distance

if TYPE_CHECKING:
    from clbench.methods.plan import Plan, Training


class EMA(Method):
    """Shows θ̄, θ̄ ← d·θ̄ + (1 − d)·θ after every step, from the weights that training starts with.

    The next task goes on from θ, or with ``carry_on`` from θ̄, with which the task then ends: what
    other methods do at its end, they do with θ̄. That is the recipe's ``ema``, where ``warm_up`` is
    off. ``over: stream`` averages on from task to task [1], and does not begin anew with each. With
    ``warm_up`` update n has d = min(``decay``, (1 + n)/(10 + n))::

        methods: {ema: {decay: 0.9999}}
    """

    summary: ClassVar[str] = "show the moving average of the weights in training"
    neutral: ClassVar[Mapping[str, float]] = {"decay": 0.0}
    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=1)
    averages: ClassVar[bool] = True
    scope_means: ClassVar[str] = "what the average has of weights before the last: raise decay"

    decay: float = Field(0.9999, ge=0, lt=1, description="d, the average's own share; 0 is off")
    warm_up: bool = Field(True, description="update n has min(d, (1 + n)/(10 + n))")
    over: Literal["task", "stream"] = Field(
        "task", description="begin anew with every task, or average on"
    )
    carry_on: bool = Field(
        False, description="the task ends with the average, from which the next one starts"
    )

    @model_validator(mode="after")
    def _one_way_to_go_on(self) -> EMA:
        if self.over == "stream" and self.carry_on:
            raise ValueError("over: stream averages what training goes on with: no carry_on then")
        return self

    #: Of the task before, and of the one that is trained.
    _mean: State = {}
    _updates: int = 0
    _average: MovingAverage | None = None
    _told: dict[str, float] = {"active": 0.0}

    @property
    def carries(self) -> bool:
        return False

    def refuses(self, recipe: Training, sketch: nn.Module | None) -> str:
        if recipe.ema:
            return "averages the weights of a task, and so does the recipe's ema: leave one out"
        before = True
        for name, other in recipe.methods.items():
            if other is self:
                before = False
                continue
            ends = [h for h in ("finish", "absorb", "deploy") if overriding([other], h)]
            if ends and before:
                return f"makes the weights that {name} has at a task's end: put it before {name}"
            edits = other.averages and "finish" in ends and not overriding([other], "after_step")
            if not self.carry_on and (edits or overriding([other], "surgery")):
                return f"shows an average without what {name} does to weights: say carry_on: true"
        return ""

    def start(self, context: Context) -> None:
        average = self._average = MovingAverage(context.model, self.decay, self.warm_up)
        if self.over == "stream" and not context.first:
            known = {n: x for n, x in self._mean.items() if n in average.mean}
            average.mean |= {n: x.to(average.mean[n]) for n, x in known.items()}
            average.updates = self._updates
        self._mean = {}

    def after_step(self, model: nn.Module, step: int) -> None:
        if self.decay:
            assert self._average is not None
            self._average.update(model)

    def finish(self, context: Context) -> None:
        average, self._average = self._average, None
        self._told = {"active": 0.0}
        if not self.decay:
            return
        assert average is not None
        average.agree()
        trained = {n: x for n, x in snapshot(context.model).items() if n in average.mean}
        moved = trunk_distance(trained, average.mean, context.head)
        active = any(not torch.equal(x, average.mean[n]) for n, x in trained.items())
        self._told = {"active": float(active), "distance_moved": moved}
        if self.carry_on:
            average.give(context.model)
        else:
            self._mean, self._updates = average.mean, average.updates

    def deploy(self, theta: State, context: Context) -> State:
        if not self.decay or self.carry_on:
            return theta
        if not self._mean:
            raise ClbenchError(
                "ema shows an average that only the last task's checkpoint of a run holds: run "
                "again with checkpoints: last, or with methods.ema.carry_on: true"
            )
        return theta | {name: x.to(theta[name].device) for name, x in self._mean.items()}

    def activity(self) -> dict[str, float]:
        return self._told

    def scope(self, plan: Plan) -> float:
        """What the average has of weights before the last of a task."""
        return warmed_up(self.decay, plan.total_steps) if self.warm_up else self.decay

    def state_dict(self) -> dict[str, object]:
        return {"mean": self._mean, "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._mean, self._updates = dict(state["mean"]), int(state["updates"])
