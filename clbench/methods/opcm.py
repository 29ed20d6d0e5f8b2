"""OPCM: what a task changed is merged without what it shares with the changes before it.

[0] Tang et al., *Merging models on the fly without retraining: a sequential approach to scalable
    continual model merging*, section 4.
[1] The authors' program, in FusionBench.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context, Needs
from clbench.methods.merge import Merging
from clbench.methods.plan import Remark
from clbench.methods.statements import Swept
from clbench.methods.task_vectors import Scale, Store
from clbench.weights import State, is_statistic


def without_shared(change: Tensor, merged: Tensor, alpha: float) -> Tensor:
    """A change without what it has in the directions of the changes before it [1].

    In the singular bases U, V of ``merged`` the diagonal of Uᵀ·change·V and its leading r × r block
    are left out, r the index, from 0, of the first singular value with which their sum is above
    ``alpha`` of that of all. Singular values of zero are no direction.

    Args:
        change: (m, …), a matrix after its first axis is set against all others.
        merged: of its shape.
        alpha: in [0, 1).
    """
    u, s, vh = torch.linalg.svd(merged.flatten(1), full_matrices=False)
    rank = int((s.cumsum(0) <= alpha * s.sum()).sum())
    inner = u.T @ change.flatten(1) @ vh.T
    shared = torch.diag(inner.diagonal())
    shared[:rank, :rank] = inner[:rank, :rank]
    known = s > s[0] * max(merged.shape[0], merged[0].numel()) * torch.finfo(s.dtype).eps
    return change - (u @ (shared * known[:, None]) @ vh).view_as(change)


class Projected(Store):
    """Takes up one model after the other as :func:`opcm`; its numbers: λ, and the norms' sum."""

    def __init__(self, alpha: float, matrices: Collection[str] = ()) -> None:
        super().__init__("task_arithmetic")
        self.alpha, self.matrices = alpha, matrices
        self.numbers = [1.0, 0.0]

    def add(self, base: State, model: State) -> None:
        before = {name: total[0] for name, total in self.totals.items()}
        super().add(base, model)
        names = [n for n, x in base.items() if x.is_floating_point() and not is_statistic(n)]
        changes = {name: model[name] - base[name] for name in names}
        factor, norms = self.numbers[0], self.numbers[1] + _norm(changes)
        if self.count > 1:
            for name, change in changes.items():
                if name in self.matrices:
                    change = without_shared(change, before[name], self.alpha)
                changes[name] = factor * before[name] + change
            factor = _norm(changes) * self.count / norms if norms else 1.0
            self.totals |= {n: (x / factor if factor else x,) for n, x in changes.items()}
        self.numbers = [factor, norms]


def opcm(base: State, models: Sequence[State], alpha: float, matrices: Collection[str]) -> State:
    """The weights base + (λ'·Δ + P(model − base))/λ, one model after the other [0, 1].

    Δ is the merged change so far and λ' its λ; P is :func:`without_shared` of Δ for the weights
    named ``matrices``, and leaves the others as they are. λ gives the merged change the mean norm
    of all models' changes. The first model is merged as it is.

    Args:
        base: what every model was trained from, a state dict.
        models: at least one, in order.
        alpha: in [0, 1): more leaves out more.
        matrices: names of weights with two axes or more.

    Raises:
        ValueError: if names or shapes differ.
    """
    store = Projected(alpha, matrices)
    for model in models:
        store.add(base, model)
    return store.merged(base, 1.0)


class OPCM(Merging):
    """Every task from θ_*, its change merged but for the directions of the changes before it [0].

    Linear layers are projected; other weights are added, and the whole is scaled to the mean norm
    of the tasks' changes, see :func:`opcm`. Memory: θ_* and the merged change. Head and running
    statistics are as in ``task_arithmetic``. α = 0.5 is that of [1]; others are a sweep over a run
    with ``checkpoints: all``::

        methods: {opcm: {alpha: 0.5}}
    """

    summary: ClassVar[str] = "train every task from θ_*, merge what is new in its change"
    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=2)
    swept: ClassVar[Mapping[str, Swept]] = {
        "alpha": Swept(every="alpha is about the change of every task")
    }

    alpha: float = Field(0.5, ge=0, lt=1, description="larger: more is left out")
    convolutions: Literal["add", "project"] = Field(
        "add", description="kernels: added (authors' code), or projected as matrices (out, in·h·w)"
    )

    _matrices: frozenset[str] = frozenset()

    def start(self, context: Context) -> None:
        self._matrices = self._of(context)

    def remarks(self) -> Sequence[Remark]:
        if self._matrices:
            return ()
        way_out = "changes are added and scaled alone: say convolutions: project"
        return (Remark("no layer is projected", f"there is no linear one but the head; {way_out}"),)

    def absorb(self, theta: State, context: Context) -> None:
        store = self._store or self.new_store()
        assert isinstance(store, Projected)
        store.alpha, store.matrices, self._store = self.alpha, self._of(context), store
        super().absorb(theta, context)

    def _of(self, context: Context) -> frozenset[str]:
        kinds = (nn.Linear, *[nn.Conv1d, nn.Conv2d] * (self.convolutions == "project"))
        found = (f"{n}.weight" for n, m in context.model.named_modules() if isinstance(m, kinds))
        return frozenset(found) - (frozenset() if context.shared else frozenset(context.head))

    def new_store(self) -> Store:
        return Projected(self.alpha)

    @property
    def scaling(self) -> Scale:
        return 1.0


def _norm(tensors: State) -> float:
    """The Euclidean norm of all."""
    return float(torch.stack([x.double().norm() for x in tensors.values()]).norm())
