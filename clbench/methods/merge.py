"""Merging: every task is trained from the pretrained weights, and what it changed is added up.

[0] Ilharco et al., *Editing models with task arithmetic*, section 2.
[1] Yadav et al., *TIES-Merging: resolving interference when merging models*, Algorithm 1.
[2] Kleiman et al., *Soup to go: mitigating forgetting during continual learning with model
    averaging*, tables 1 to 7: weights of 0.75 and 0.25, or 0.33 for each of three models.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context, Method, Needs
from clbench.methods.statements import Swept
from clbench.methods.task_vectors import Scale, Store, Trim, task_arithmetic, ties
from clbench.weights import State, trunk_distance

__all__ = ["TIES", "TaskArithmetic", "task_arithmetic", "ties"]


class Merging(Method):
    """What the rows of the family share: each task from θ_*, then one more task vector.

    The trunk is merged; the head's rows are those that were trained, unless tasks share them: then
    they are merged as well, from those the first task started from. Memory is on the CPU.
    """

    rewinds: ClassVar[bool] = True
    averages: ClassVar[bool] = True
    scope_means: ClassVar[str] = "the way from trained to merged weights, against that from θ_*"

    _store: Store | None = None
    _head: State = {}
    _activity: dict[str, float] = {"active": 0.0}

    @abstractmethod
    def new_store(self) -> Store:
        """An empty store of the family's row."""

    @property
    @abstractmethod
    def scaling(self) -> Scale:
        """λ."""

    def absorb(self, theta: State, context: Context) -> None:
        trunk, base = self._parts(theta, context)
        self._store = self._store or self.new_store()
        self._store.add(base, trunk)

    def deploy(self, theta: State, context: Context) -> State:
        trunk, base = self._parts(theta, context)
        store = self._store
        assert store is not None
        alone = store.count == 1 and store.factor(self.scaling) == 1 and store.density == 1
        merged = trunk if alone else store.merged(base, self.scaling)
        changed = any(not torch.equal(x, merged[name]) for name, x in trunk.items())
        moved, trained = (trunk_distance(trunk, x, context.head) for x in (merged, base))
        self._activity = {
            "active": float(changed),
            "distance_moved": moved,
            "distance_to_pretrained": trunk_distance(base, merged, context.head),
            "merged_tasks": float(store.count),
            "scope": min(1.0, moved / trained) if trained else 0.0,
        }
        return theta if alone else theta | {n: x.to(theta[n].device) for n, x in merged.items()}

    def _parts(self, theta: State, context: Context) -> tuple[State, State]:
        """What is merged of a task's weights, and what these were before it, on the CPU."""
        merging = theta.keys() - (() if context.shared else context.head)
        trunk = {name: x.cpu() for name, x in theta.items() if name in merging}
        base = {name: context.anchors.pretrained.state[name].cpu() for name in trunk}
        if context.shared:
            self._head = self._head or {name: base[name].clone() for name in context.head}
            base |= self._head
        return trunk, base

    def activity(self) -> dict[str, float]:
        return self._activity

    def state_dict(self) -> dict[str, object]:
        if self._store is None:
            return {}
        return {
            "count": self._store.count,
            "totals": {name: list(total) for name, total in self._store.totals.items()},
            **({"head": self._head} if self._head else {}),
            **({"numbers": self._store.numbers} if self._store.numbers else {}),
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        self._store, self._head = None, {}
        if state:
            self._store = self.new_store()
            self._store.count = cast("int", state["count"])
            self._head = dict(cast("State", state.get("head", {})))
            self._store.numbers = list(cast("list[float]", state.get("numbers", [])))
            totals = cast("dict[str, list[Tensor]]", state["totals"])
            self._store.totals = {name: tuple(total) for name, total in totals.items()}


class TaskArithmetic(Merging):
    """θ = θ_* + λ·Σ (θ_task − θ_*) over the tasks learned so far, each trained from θ_* [0].

    With ``scale: mean`` λ is 1/number of tasks learned so far, so that the tasks' weights sum to 1,
    as in the tables of [2]. Memory: θ_* and the running sum. For one task, ``scale: 1`` and
    ``scale: mean`` are plain fine-tuning.
    """

    summary: ClassVar[str] = "train every task from the pretrained weights, add the changes up"
    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=2)
    swept: ClassVar[Mapping[str, Swept]] = {"scale": Swept()}

    scale: Annotated[float, Field(ge=0)] | Literal["mean"] = Field(
        0.4,
        description="λ, factor of the summed changes; 0.4 is usual where it is not tuned; mean: "
        "1/number of tasks so far",
    )

    def new_store(self) -> Store:
        return Store("task_arithmetic")

    @property
    def scaling(self) -> Scale:
        return self.scale


class TIES(Merging):
    """As Task Arithmetic, with task vectors trimmed and merged where their signs agree [1].

    Memory: θ_*, and sums and counts by sign (three times the weights), for any number of tasks.
    For one task, ``density: 1`` and ``scale: 1`` are plain fine-tuning.
    """

    summary: ClassVar[str] = "as task_arithmetic, with trimmed changes whose signs agree"
    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=4)
    swept: ClassVar[Mapping[str, Swept]] = {
        "scale": Swept(),
        "density": Swept(every="density trims the change of every task"),
    }

    density: float = Field(0.2, gt=0, le=1, description="share of entries that trimming keeps")
    scale: float = Field(1.0, ge=0, description="λ, factor of the merged changes")
    trim: Trim = Field("tensor", description="trim each tensor, or the model as one vector")

    def new_store(self) -> Store:
        return Store("ties", self.density, self.trim)

    @property
    def scaling(self) -> Scale:
        return self.scale
