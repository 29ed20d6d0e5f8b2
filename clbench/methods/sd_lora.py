"""SD-LoRA: directions of past tasks stay, and how far to go along each is learned further.

[0] Wu et al., *SD-LoRA: scalable decoupled low-rank adaptation for class incremental learning*,
    eqs. 3 and 4: W = W_0 + Σ_k α_k·A_kB_k/‖A_kB_k‖_F, of which past tasks' α_k alone are trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context, Needs
from clbench.methods.low_rank import AttentionUpdates, LowRank, Updates, low_rank, thirds_field

FROM_START = "the latter starts every task from θ_*, where no past direction has gone anywhere"


class Kept(NamedTuple):
    """Directions of past tasks in the rows of a weight, each of length 1, and how far they went.

    Attributes:
        down: the tasks' A one under the other, (R, n), R the sum of their ranks.
        up: their B side by side, (rows, R), so that each ‖B·A‖_F is 1.
        task: int64 (R,), whose rank each is, from 0.
        magnitudes: α (K,), of each task.
    """

    down: Tensor
    up: Tensor
    task: Tensor
    magnitudes: Tensor


def with_direction(kept: Kept | None, down: Tensor, up: Tensor) -> Kept | None:
    """Directions with that of a task, whose magnitude is the length of its update [0, eq. 3].

    Args:
        kept: of the tasks before; None: there are none.
        down: A, (r, n).
        up: B, (rows, r). One that is 0 has no direction.

    >>> kept = with_direction(None, torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0]]))
    >>> kept.magnitudes, kept.up @ kept.down
    (tensor([10.]), tensor([[0.6000, 0.8000]]))
    """
    length = (up @ down).norm()
    if not length:
        return kept
    task = torch.full((len(down),), len(kept.magnitudes) if kept else 0, device=down.device)
    new = Kept(down, up / length, task, length[None])
    if kept is None:
        return new
    pairs = zip(kept, new, (0, 1, 0, 0), strict=True)
    return Kept(*(torch.cat([old, added], axis) for old, added, axis in pairs))


class Directions(nn.Module):
    """A parametrization: W + Σ_k (α_k − α_k before)·direction_k, of which α is trained; final.

    A weight with past tasks' updates merged is W_0 + Σ_k α_k·direction_k as long as α is as before.

    Args:
        kept: the directions.
        rows: the rows of the weight that they are of; None: all.
    """

    down: Tensor
    up: Tensor
    task: Tensor
    before: Tensor
    rows: Tensor | None

    def __init__(self, kept: Kept, rows: Tensor | None) -> None:
        super().__init__()
        for name, tensor in (*kept._asdict().items(), ("rows", rows)):
            self.register_buffer("before" if name == "magnitudes" else name, tensor)
        self.magnitudes = nn.Parameter(kept.magnitudes.clone())

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            moved = (self.magnitudes - self.before)[self.task]
            return low_rank(weight, self.down, self.up * moved, 1.0, self.rows)


class SDLoRA(AttentionUpdates):
    """Train W_0 + Σ_k α_k·A_kB_k/‖A_kB_k‖_F: all α, and the current task's A and B [0].

    A and B start anew with every task, without a norm; when it ends, α is their product's length.
    Past directions (their A and B) are kept, the network is the sum. Weight decay acts on α, too.
    Rank reduction (SD-LoRA-RR) is another ``rank`` of some tasks, in ``per_task``::

        methods: {sd_lora: {rank: 10}}
        per_task: {task 5: {methods: {sd_lora: {rank: 8}}}}
    """

    summary: ClassVar[str] = "low-rank updates; how far past ones go is trained with each new one"
    called: ClassVar[str] = "sd_lora"
    needs: ClassVar[Needs] = Needs(past_tasks=True, task_boundaries=True)
    factors: ClassVar[tuple[str, ...]] = ("A", "B", "magnitudes")
    clashes: ClassVar[Mapping[str, str]] = {
        **AttentionUpdates.clashes, **dict.fromkeys(("task_arithmetic", "ties", "opcm"), FROM_START)
    }  # fmt: skip

    rank: int = Field(10, ge=1, description="r of a task; smaller layers take what they allow")
    qkv: str = thirds_field("qv")

    _kept: dict[str, Kept] = {}
    #: Of the task in training: the rows of a layer, their new update, the directions before.
    _pairs: dict[str, tuple[LowRank, Directions | None]] = {}
    _told: dict[str, float] = {}

    def updates(self, layer: str, part: str, weight: Tensor, rows: Tensor | None) -> Updates:
        new, kept = LowRank(weight, self.rank, 1.0, rows), self._kept.get(f"{layer} {part}")
        past = kept and Directions(Kept(*(x.to(weight.device) for x in kept)), new.rows)
        self._pairs[f"{layer} {part}"] = new, past
        return [new] if past is None else [new, past]

    @torch.no_grad()
    def finish(self, context: Context) -> None:
        moved = 0.0
        for place, (new, past) in self._pairs.items():
            kept = None
            if past is not None:
                kept = Kept(past.down, past.up, past.task, past.magnitudes.clone())
                moved += float((past.magnitudes - past.before).square().sum())
            found = with_direction(kept, new.A.clone(), new.B)
            if found is not None:
                self._kept[place] = found
        most = max((len(kept.magnitudes) for kept in self._kept.values()), default=0)
        self._told = {"directions": float(most), "magnitudes_moved": moved**0.5}
        self._pairs = {}

    def freedom_of(self, update: nn.Module) -> int:
        if isinstance(update, Directions):
            return len(update.magnitudes)
        return super().freedom_of(update)

    def activity(self) -> dict[str, float]:
        return self._activity | self._told

    def state_dict(self) -> dict[str, object]:
        return {place: tuple(kept) for place, kept in self._kept.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept = {place: Kept(*found) for place, found in state.items()}
