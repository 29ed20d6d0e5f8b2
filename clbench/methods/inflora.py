"""InfLoRA: low-rank updates in directions that inputs of past tasks hardly have.

[0] Liang and Li, *InfLoRA: interference-free low-rank adaptation for continual learning*: W + B·A,
    A designed before the task and then fixed; DualGPM keeps what past tasks' inputs have spanned.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context
from clbench.methods.low_rank import AttentionUpdates, LowRank, Updates
from clbench.methods.spanned import Spanned, dual_gpm
from clbench.models.inputs import input_covariances
from clbench.seeding import generator


def designed(matrix: Tensor, spanned: Spanned | None, rank: int) -> Tensor:
    """A of the task to come, (r, n): the main directions that are left of its inputs, over √3 [0].

    Args:
        matrix: (n, n), whose columns span the task's inputs.
        spanned: by past tasks; None: there are none.
        rank: r. Rows for which no direction is left are 0.

    >>> (3 * designed(torch.diag(torch.tensor([2.0, 1.0])), None, 1).square()).round()
    tensor([[1., 0.]])
    """
    left, sizes, _ = torch.linalg.svd(matrix if spanned is None else spanned.rest(matrix))
    found = sizes > len(sizes) * torch.finfo(sizes.dtype).eps * torch.linalg.matrix_norm(matrix, 2)
    # Rows of a random A of torch's own start have this length on average.
    return (left * found)[:, :rank].T / math.sqrt(3)


class InfLoRA(AttentionUpdates):
    """Train B of W + B·A, A along what past tasks have left of a task's inputs; merge after it [0].

    Before a task A is taken of the mean of x·xᵀ over each layer's inputs x, and after it the space
    that past tasks span grows (DualGPM): two passes over the task's images, without augmentation.
    Rank and energies are those of the authors' CIFAR-100::

        methods: {inflora: {rank: 10, energy: 0.95, energy_end: 1.0}}
    """

    summary: ClassVar[str] = "low-rank updates in directions that past tasks' inputs hardly have"
    called: ClassVar[str] = "inflora"
    factors: ClassVar[tuple[str, ...]] = ("B",)

    rank: int = Field(10, ge=1, description="r; layers that are smaller take what they allow")
    energy: float = Field(
        0.95, gt=0, le=1, description="share of inputs' energy that is kept after the first task"
    )
    energy_end: float = Field(
        1.0, gt=0, le=1, description="what it grows to, by equal parts, in a task after the last"
    )
    energy_of: Literal["covariance", "inputs"] = Field(
        "covariance",
        description="squares of the singular values of the mean of x·xᵀ (the authors' program), or "
        "of the inputs, as in GPM, which keeps more",
    )
    samples: int | None = Field(
        None, ge=1, description="training images that a pass looks at; default: all"
    )

    _spanned: dict[str, Spanned] = {}

    def updates(self, layer: str, part: str, weight: Tensor, rows: Tensor | None) -> Updates:
        return [LowRank(weight, self.rank, 1.0, rows)]

    def start(self, context: Context) -> None:
        super().start(context)
        if context.first:
            self._spanned = {}
        for name, matrix in self._matrices(context).items():
            down = designed(matrix, self._spanned_of(name, matrix), self.rank)
            for update in self._updates[name]:
                assert isinstance(update, LowRank)
                update.A.data.copy_(down[: len(update.A)])

    def finish(self, context: Context) -> None:
        task = context.task
        step = (self.energy_end - self.energy) / task.stages
        share = self.energy + step * task.stage
        for name, matrix in self._matrices(context).items():
            self._spanned[name] = dual_gpm(matrix, self._spanned_of(name, matrix), share)

    def _spanned_of(self, layer: str, like: Tensor) -> Spanned | None:
        found = self._spanned.get(layer)
        return found and Spanned(found.basis.to(like), found.free)

    def _matrices(self, context: Context) -> dict[str, Tensor]:
        """What is decomposed of the inputs of each layer: their mean of x·xᵀ, or its root."""
        split = context.drawn(self.samples, generator(context.seed, 10))
        batches = (b.inputs for b in context.reader.own(split, context.device))
        found = input_covariances(
            context.model, list(self._updates), batches, context.reader.autocast
        )
        if self.energy_of == "inputs":
            for name, covariance in found.items():
                values, vectors = torch.linalg.eigh(covariance)
                found[name] = vectors * values.clamp(min=0).sqrt() @ vectors.T
        return found

    def freedom_of(self, update: nn.Module) -> int:
        assert isinstance(update, LowRank)
        return len(update.B) * int(update.A.any(1).sum())

    def activity(self) -> dict[str, float]:
        sizes = [(len(s.basis), s.basis.shape[1], s.free) for s in self._spanned.values()]
        taken = sum(n - m if free else m for n, m, free in sizes)
        share = {"inputs_spanned": taken / sum(n for n, _, _ in sizes)} if sizes else {}
        return self._activity | share

    def state_dict(self) -> dict[str, object]:
        return {name: tuple(spanned) for name, spanned in self._spanned.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._spanned = {name: Spanned(*found) for name, found in state.items()}
