"""Gradient Projection Memory (GPM): layers move across the space of what past tasks gave them.

[0] Saha et al., *Gradient projection memory for continual learning*, section 5, eqs. 5 to 9.
[1] The authors' program for CIFAR-100 in 10 tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context, Method, Needs
from clbench.methods.kinds import LOW_RANK, PROMPTS
from clbench.methods.plan import Remark
from clbench.methods.spanned import across, extended
from clbench.models.inputs import full_precision, input_grams, weighted
from clbench.record.scopes import is_little
from clbench.seeding import generator

PART = 16  # images of a pass


class GPM(Method):
    """Keeps each layer's answers to the inputs of past tasks, by projection; no sample is kept [0].

    After a task the inputs of each linear and convolutional layer are seen on ``samples`` images,
    and the directions that hold ε of them join its basis. From then on the layer moves across it
    alone. With SGD and no weight decay projected updates are [0]'s projected gradients; with Adam
    or decay only ``of: update`` keeps to the space. Other parameters than these weights rest after
    the first task, the head is free. ε and its growth are [1]'s::

        methods: {gpm: {threshold: 0.97, increase: 0.003}}
        optimizer: {name: sgd, lr: 0.01, momentum: 0, weight_decay: 0}
    """

    summary: ClassVar[str] = "project updates off the space of past tasks' inputs, layer by layer"
    neutral: ClassVar[Mapping[str, float]] = {"threshold": 0.0}
    needs: ClassVar[Needs] = Needs(past_tasks=True, task_boundaries=True, copies=1)
    scope_means: ClassVar[str] = "the share of its steps that is taken away: raise threshold"
    clashes: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (*LOW_RANK, "linear_probe", *PROMPTS, "bitfit", "ln_only", "spu"),
        "the weights that gpm projects are frozen there",
    )

    threshold: float = Field(0.97, ge=0, le=1, description="ε, share of the inputs; 0 is off")
    increase: float = Field(
        0.003, ge=0, le=1, description="what ε grows by with each task, up to 1"
    )
    samples: int = Field(125, ge=1, description="training images of a task that are looked at")
    of: Literal["update", "gradient"] = Field(
        "update", description="what is projected: each step's update, or its gradient (the paper)"
    )
    first: Literal["reach", "below"] = Field(
        "reach", description="first task: ε is reached, or by one direction not (authors' program)"
    )

    #: By weight, float32 (G, N, K), zeros where a group has fewer; those of the task in training.
    _bases: dict[str, Tensor] = {}
    _here: dict[str, Tensor] = {}
    _before: dict[str, Tensor] = {}
    _head: tuple[str, ...] = ()
    _tasks: int = 0
    _squares: Tensor | None = None
    _closed: float = 0.0
    _resting: float = 0.0

    @property
    def first_task(self) -> int:
        """The first task that has one before it."""
        return 2

    def start(self, context: Context) -> None:
        self._head, self._squares = context.head, None
        weights = dict(context.model.named_parameters())
        self._here = {name: x.to(context.device) for name, x in self._bases.items()}
        # As many rows as a weight has, each with as many closed directions as its group's basis.
        closed = [float(x.any(1).sum()) * len(weights[n]) / len(x) for n, x in self._here.items()]
        known = sum(weights[name].numel() for name in self._here)
        trunk = sum(p.numel() for name, p in weights.items() if name not in context.head)
        self._closed = sum(closed) / max(1, known)
        self._resting = 1 - known / trunk if self._here else 0.0

    def remarks(self) -> Sequence[Remark]:
        if is_little(self._resting):
            return ()
        detail = f"{self._resting:.0%} is in layers that it cannot project: choose another backbone"
        return [Remark("it leaves much of the trunk at rest", detail)]

    def trainable(self, name: str) -> bool:
        return not self._bases or name in self._bases or name in self._head

    @torch.no_grad()
    def project(self, model: nn.Module) -> None:
        for name, parameter in self._projected(model):
            if self.of == "update":
                self._before[name] = parameter.detach().clone()
            elif parameter.grad is not None:
                parameter.grad.copy_(self._across(name, parameter.grad))

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        if self.of == "update":
            for name, parameter in self._projected(model):
                before = self._before.pop(name)
                parameter.copy_(before + self._across(name, parameter - before))

    def _projected(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        named = model.named_parameters() if self._here else ()
        return [(name, p) for name, p in named if name in self._here and p.requires_grad]

    def _across(self, name: str, change: Tensor) -> Tensor:
        with full_precision():  # what is left along the basis is all that past tasks see
            kept = across(change, self._here[name])
        found = torch.stack([(change - kept).square().sum(), change.square().sum()])
        self._squares = found if self._squares is None else self._squares + found
        return kept

    def finish(self, context: Context) -> None:
        if not self.threshold:
            return
        epsilon = min(1.0, self.threshold + self.increase * self._tasks)
        below = self.first == "below" and not self._tasks
        split = context.drawn(self.samples, generator(context.seed))
        batches = (b.inputs for b in context.reader.own(split, context.device, PART))
        layers = weighted(context.model, context.head)
        grams = input_grams(context.model, layers, batches, context.reader.autocast)
        for name, gram_GNN in grams.items():
            known = self._here.get(name, gram_GNN[:, :, :0])
            found = [extended(basis[:, basis.any(0)], gram, epsilon, below)
                     for basis, gram in zip(known, gram_GNN, strict=True)]  # fmt: skip
            most = max(x.shape[1] for x in found)
            padded = torch.stack([nn.functional.pad(x, (0, most - x.shape[1])) for x in found])
            self._bases = self._bases | {name: padded.float().cpu()}
        self._tasks, self._here = self._tasks + 1, {}

    def activity(self) -> dict[str, float]:
        removed, whole = (0.0, 1.0) if self._squares is None else self._squares.tolist()
        share = removed / max(whole, 1e-38)  # closed: of the directions that weights could take
        return {"active": float(share > 0), "scope": share, "closed_share": self._closed}

    def state_dict(self) -> dict[str, object]:
        return {"bases": dict(self._bases), "tasks": self._tasks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._bases, self._tasks = dict(state["bases"]), state["tasks"]
