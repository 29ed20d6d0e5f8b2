"""Classifier alignment: the head is trained on what is remembered of features, half of SLCA.

[0] Zhang et al., *SLCA: slow learner with classifier alignment for continual learning on a
    pre-trained model*, section 4.2: Gaussians of classes, and logits of tasks at one length. The
    other half is :mod:`clbench.methods.slow_trunk`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context, Method, Needs
from clbench.methods.collected import collected, with_rows
from clbench.methods.statements import Swept
from clbench.models.gaussians import align, at_one_length, gaussian
from clbench.seeding import generator
from clbench.weights import State

__all__ = ["AlignHead", "align", "at_one_length", "gaussian"]

#: Draws in a batch, as in the authors' program.
BATCH = 256


class AlignHead(Method):
    """From the second task on: trains the head on draws from N(μ_c, Σ_c) of all classes seen [0].

    μ_c and Σ_c are of the class's features when its task ended; no image is kept. μ_c is scaled by
    1 − ``shrink``·(1 − t/T), t the class's task of T so far. The aligned head is shown; the next
    task goes on from the one that was trained, as in [0]. Its place in the recipe says on which
    trunk. Beside any method that trains::

        methods: {replay: {}, align_head: {epochs: 3}}
    """

    summary: ClassVar[str] = "after a task, train the head on Gaussians of all classes (SLCA)"
    neutral: ClassVar[Mapping[str, float]] = {"epochs": 0}
    needs: ClassVar[Needs] = Needs(past_tasks=True, task_boundaries=True)
    swept: ClassVar[Mapping[str, Swept]] = {
        "epochs": Swept(0.0, (0.0,), "alignment draws from the classes of every task")
    }
    clashes: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("ncm", "slda", "ranpac", "knn", "fecam", "aper"),
        "the latter decides by statistics of all classes already",
    )

    epochs: int = Field(5, ge=0, description="epochs of alignment; 0 is off")
    lr: float = Field(0.01, gt=0, description="rate of its SGD, a cosine over its epochs")
    samples: int = Field(256, ge=1, description="draws of a class in an epoch")
    temperature: float | None = Field(
        0.1, gt=0, description="τ of logits at one length; null leaves logits as they are"
    )
    shrink: float = Field(0.1, ge=0, le=1, description="how much the oldest means are scaled down")

    #: ``labels`` (K,), ``tasks`` (K,) from 1, ``means`` (K, F), ``roots`` L (K, F, F) of Σ = LLᵀ.
    _memory: dict[str, Tensor] = {}
    _told: dict[str, float] = {"active": 0.0}

    @property
    def carries(self) -> bool:
        return False

    def absorb(self, theta: State, context: Context) -> None:
        if not self.epochs:
            return
        parts = zip(*collected(theta, context), strict=True)
        features_NF, labels_N = (torch.cat(part) for part in parts)
        labels_K = labels_N.unique()
        found = [gaussian(features_NF[labels_N == label]) for label in labels_K]
        means_KF, sigmas_KFF = (torch.stack(part) for part in zip(*found, strict=True))
        number = int(self._memory["tasks"].max()) + 1 if self._memory else 1
        new = {"labels": labels_K, "tasks": torch.full_like(labels_K, number)}
        roots_KFF = torch.linalg.cholesky(sigmas_KFF)
        new |= {"means": means_KF.float(), "roots": roots_KFF.float()}
        old = self._memory or {name: x[:0].cpu() for name, x in new.items()}
        self._memory = {name: torch.cat([old[name], x.cpu()]) for name, x in new.items()}

    def deploy(self, theta: State, context: Context) -> State:
        self._told = {"active": 0.0}
        if not self.epochs or not self._memory or int(self._memory["tasks"].max()) < 2:
            return theta
        names, device = sorted(context.head, key=lambda n: n.endswith("bias")), context.device
        rows_S, own_K = self._memory["labels"].unique(return_inverse=True)
        owner_S = context.losses.task_of_class.cpu()[rows_S]
        groups = [(owner_S == task).nonzero().flatten().to(device) for task in owner_S.unique()]
        before = [theta[name][rows_S].to(device).float() for name in names]
        after = align(before, self._epochs(context, own_K), groups, self.temperature)
        whole = [theta[name].to(device, torch.float32, copy=True) for name in names]
        for part, found in zip(whole, after, strict=True):
            part[rows_S.to(device)] = found
        seen_C = torch.zeros(len(whole[0]), dtype=torch.bool)
        seen_C[rows_S] = True
        moved = math.hypot(*(float((a - b).norm()) for a, b in zip(after, before, strict=True)))
        centres = self._memory["means"].to(device)
        old, new = (F.linear(centres, *head).argmax(1) for head in (before, after))
        share = float((old != new).float().mean())
        self._told = {"active": float(moved > 0), "distance_moved": moved, "means_moved": share}
        return with_rows(theta, context, seen_C, whole[0], whole[1] if len(whole) > 1 else None)

    def _epochs(self, context: Context, own_K: Tensor) -> Iterable[tuple[float, Any]]:
        """Of each epoch its rate and its batches."""
        memory = {name: x.to(context.device) for name, x in self._memory.items()}
        ages_K = 1 - memory["tasks"] / memory["tasks"].max()
        means_KF = memory["means"] * (1 - self.shrink * ages_K)[:, None]
        for epoch in range(self.epochs):
            random = generator(context.seed, 7, epoch)
            shape = (len(own_K), self.samples, means_KF.shape[1])
            drawn = torch.randn(shape, generator=random).to(context.device)
            drawn_NF = (drawn @ memory["roots"].mT + means_KF[:, None]).flatten(0, 1)
            rows_N = own_K.repeat_interleave(self.samples).to(context.device)
            parts = torch.randperm(len(rows_N), generator=random).to(context.device).split(BATCH)
            rate = self.lr * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
            yield rate, ((drawn_NF[part], rows_N[part]) for part in parts)

    def activity(self) -> dict[str, float]:
        return self._told

    def state_dict(self) -> dict[str, object]:
        return dict(self._memory)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._memory = dict(state)
