"""Merging weighted by the Fisher information: of both models, and EWC read as merging.

[0] Kleiman et al., *Soup to go: mitigating forgetting during continual learning with model
    averaging*, appendix A.3.
[1] Matena & Raffel, *Merging models with Fisher-weighted averaging*.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context, Method, Needs
from clbench.methods.ewc import fisher_merge, fisher_of_task
from clbench.methods.gradient_share import looks
from clbench.models.anchors import Anchor
from clbench.weights import State

MERGES = (
    "one merges with the previous task's weights, where the other starts every task from the "
    "pretrained ones"
)


def pull(theta: State, anchor: State, share: State) -> None:
    """Merge entry by entry, in place: θ ← (1 − s)·θ + s·θ_o, with s at most 1 [0, eq. 14].

    Args:
        theta: weights, by name.
        anchor: θ_o, for all names of ``share``.
        share: s, at least 0, for all or some of the names; other weights stay as they are.
    """
    for name, s in share.items():
        theta[name].lerp_(anchor[name], s.clamp(max=1))


class _Fisher(Method):
    """Keeps F_o, the Fisher information of θ_o on the past tasks; abstract.

    F_o is the sum of the past tasks' Fisher diagonals, each computed on its training images when
    the task ended, so that no old data is needed.
    """

    needs: ClassVar[Needs] = Needs(past_tasks=True, task_boundaries=True, copies=2)
    averages: ClassVar[bool] = True
    clashes: ClassVar[Mapping[str, str]] = {
        "task_arithmetic": MERGES,
        "ties": MERGES,
        "opcm": MERGES,
    }

    labels: Literal["data", "model"] = Field(
        "data", description="labels of the Fisher: the data's, or drawn from the model"
    )
    samples: int | None = Field(
        None, ge=1, description="training images the Fisher is computed on; default: all"
    )

    _fisher: State = {}
    _activity: dict[str, float] = {"active": 0.0}

    def start(self, context: Context) -> None:
        self._fisher = {name: f.to(context.device) for name, f in self._fisher.items()}
        self._activity = {"active": 0.0}

    def _add(self, fisher: State) -> None:
        """Take up the Fisher of a task that ends."""
        for name, f in fisher.items():
            self._fisher[name] = self._fisher[name] + f if name in self._fisher else f

    def activity(self) -> dict[str, float]:
        return self._activity

    def state_dict(self) -> dict[str, object]:
        return {"fisher": self._fisher}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._fisher = dict(state["fisher"])


class FisherAverage(_Fisher):
    """Averages at the end of a task with θ_o, entry by entry by both Fishers; abstract.

    θ ← (λ_o·F_o·θ_o + λ_t·F_t·θ_t)/(λ_o·F_o + λ_t·F_t) [0, eq. 15; 1]: θ_o are the weights at the
    end of the previous task, averaged already, θ_t those just trained. Nothing is averaged in the
    first task. Where nothing is known (both Fishers are 0) the trained weights stay, as do running
    statistics: see ``model.batch_norm``.
    """

    @property
    @abstractmethod
    def shares(self) -> tuple[float, float]:
        """λ_o and λ_t; λ_o = 0 is off."""

    def finish(self, context: Context) -> None:
        # Not after the last step: until now, processes may differ in BatchNorm's statistics, with
        # which the Fisher is computed.
        if self.shares[0] == 0:
            return
        fisher, model = self._of_task(context), context.model
        if self._fisher:
            anchor = context.anchors.previous
            theta = {name: weight.detach() for name, weight in model.named_parameters()}
            before = anchor.distance(model)
            merged = fisher_merge(anchor.state, self._fisher, theta, fisher, *self.shares)
            for name, weight in theta.items():
                weight.copy_(merged[name])
            self._activity = merge_activity(before, anchor.distance(model))
            nearer = before - self._activity["distance_after"]
            self._activity["scope"] = max(0.0, nearer / before) if before else 0.0
        self._add(fisher)

    def _of_task(self, context: Context) -> State:
        """F_t."""
        return fisher_of_task(context, self.labels, self.samples)


class FisherMerge(FisherAverage):
    """At the end of a task: θ ← (λ_o·F_o·θ_o + λ_t·F_t·θ_t)/(λ_o·F_o + λ_t·F_t) [0, eq. 15; 1].

    F_o is the sum of the past tasks' Fishers. λ_o = ``weight`` and λ_t = 1 − λ_o: at 0.5 all tasks
    count alike, and for quadratic losses with diagonal curvature the result minimises their sum.
    """

    summary: ClassVar[str] = "Fisher-weighted average with the previous task's weights"
    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0}
    scope_means: ClassVar[str] = "how much of the way back to θ_o the average goes: raise weight"

    weight: float = Field(
        0.5, ge=0, lt=1, description="λ_o, weight of the previous weights; λ_t is 1 - λ_o"
    )

    @property
    def shares(self) -> tuple[float, float]:
        return self.weight, 1 - self.weight


class EWCMerge(_Fisher):
    """After every step: θ ← (I − s·F_o)·θ + s·F_o·θ_o, EWC read as merging [0, eq. 14].

    Gradient descent on EWC's loss, split into a step on the task's loss and one on the penalty:
    with plain SGD at learning rate η, ``strength`` s is η·λ of :class:`clbench.methods.ewc.EWC`
    ([0] has λ = 1). The pull does not pass through the optimiser: no momentum, no adaptive rate. No
    entry is pulled beyond θ_o, where s·F_o > 1. θ_o are the weights at the end of the previous
    task, F_o the sum of the past tasks' Fishers. Nothing is merged in the first task.
    """

    summary: ClassVar[str] = "every step pulls weights to the previous ones, by their Fisher"
    neutral: ClassVar[Mapping[str, float]] = {"strength": 0.0}
    needs: ClassVar[Needs] = Needs(past_tasks=True, task_boundaries=True, copies=4)
    scope_means: ClassVar[str] = (
        "the pull's share ‖p‖/(‖p‖ + ‖m‖) of a step, m the optimiser's: raise strength"
    )

    strength: float = Field(1.0, ge=0, description="s, learning rate times EWC's λ; 0 is off")

    _share: State = {}
    _anchor: Anchor | None = None
    _last: int = 0
    #: As for penalties, a few steps of a task are looked at: the pull against the step before it.
    _looks: frozenset[int] = frozenset()
    _before: list[Tensor] = []
    _shares: list[float] = []

    def start(self, context: Context) -> None:
        super().start(context)
        self._anchor, self._last, self._share = context.anchors.previous, context.total_steps, {}
        self._before, self._shares = [], []
        if self.strength > 0:
            self._share = {
                name: (self.strength * f).clamp_(max=1) for name, f in self._fisher.items()
            }
        self._looks = looks(self._last) if self._share else frozenset()
        self._keep(context.model, 0)

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        if not self._share:
            return
        assert self._anchor is not None
        look, last = step in self._looks, step == self._last
        before = self._anchor.distance(model) if last else 0.0
        theta = {name: weight.detach() for name, weight in model.named_parameters()}
        stepped = [weight.clone() for weight in theta.values()] if look else []
        pull(theta, self._anchor.state, self._share)
        if look:
            pulled = _apart(stepped, list(theta.values()))
            both = pulled + _apart(self._before, stepped)
            self._shares.append(pulled / both if both else 0.0)
        self._keep(model, step)
        if last:
            self._activity = merge_activity(before, self._anchor.distance(model))
            self._activity["mean_share"] = _mean(self._share.values())
            self._activity["scope"] = sum(self._shares) / len(self._shares)

    def _keep(self, model: nn.Module, step: int) -> None:
        """Keep the weights after step ``step`` if the next one is looked at."""
        looked = step + 1 in self._looks
        self._before = [p.detach().clone() for p in model.parameters()] if looked else []

    def finish(self, context: Context) -> None:
        self._share = {}
        if self.strength > 0:
            self._add(fisher_of_task(context, self.labels, self.samples))


def merge_activity(before: float, after: float) -> dict[str, float]:
    """What a merge did, for `Method.activity`: distances from θ_o before and after the last one."""
    return {
        "active": float(before != after),
        "distance_before": before,
        "distance_after": after,
    }


def _apart(ones: list[Tensor], others: list[Tensor]) -> float:
    """The Euclidean distance of weights."""
    norms = torch._foreach_norm(torch._foreach_sub(ones, others))
    return float(torch.stack(norms).norm())


def _mean(tensors: Iterable[Tensor]) -> float:
    """The mean over all entries."""
    found = list(tensors)
    total = sum(float(x.sum(dtype=torch.float64)) for x in found)
    return total / sum(x.numel() for x in found)
