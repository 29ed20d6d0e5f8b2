"""Half Fine-Tuning (HFT).

[0] Hui et al., *HFT: half fine-tuning for large language models*: redrawn for each round of
    training.
[1] Chen et al., *MoFO: momentum-filtered optimizer for mitigating forgetting in LLM fine-tuning*,
    where HFT is a baseline, redrawn at each iteration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from clbench.methods.base import Context, Method, Needs
from clbench.optim import draw_blocks


def blocks(model: nn.Module, head: tuple[str, ...]) -> list[str]:
    """The parameter blocks that HFT draws from: every parameter tensor outside the head.

    :func:`clbench.optim.layers_of` says which layer each belongs to: a residual block, a
    transformer block, or, outside of these, the module that owns the tensor.

    Args:
        model: the network.
        head: names of the head's parameters.

    Returns:
        Names, in the model's order.
    """
    return [name for name, _ in model.named_parameters() if name not in head]


class HFT(Method):
    """Train half of the parameter blocks of each layer; the other half is frozen [0].

    ``redraw: task`` freezes the same half for the whole task. ``redraw: step`` draws anew for each
    step: the frozen blocks get no gradient, so that no optimiser touches them, by momentum or
    weight decay neither, and their moments wait too. The head is always trained. A method that
    edits gradients belongs before this one in the recipe.
    """

    summary: ClassVar[str] = "train a random half of the parameter tensors of each layer"
    neutral: ClassVar[Mapping[str, float]] = {"fraction": 1.0}
    needs: ClassVar[Needs] = Needs(task_boundaries=True)
    still: ClassVar[bool] = True
    scope_means: ClassVar[str] = "weights that are frozen: lower fraction"

    fraction: float = Field(
        0.5, gt=0, le=1, description="share of each layer's parameter tensors that is trained"
    )
    redraw: Literal["task", "step"] = Field(
        "task", description="when to draw which: for each task (HFT), or each step (MoFO's paper)"
    )

    _seed: int = 0
    _step: int = 0
    _blocks: list[str] = []
    _frozen: frozenset[str] = frozenset()
    _frozen_entries: int = 0
    _all_entries: int = 0

    def start(self, context: Context) -> None:
        self._seed, self._step = context.seed, 0
        self._frozen_entries = self._all_entries = 0
        self._blocks = blocks(context.model, context.head)
        self._frozen = self._draw(0)
        if self.redraw == "task":
            self._count(context.model)

    def trainable(self, name: str) -> bool:
        return self.redraw == "step" or name not in self._frozen

    def project(self, model: nn.Module) -> None:
        if self.redraw == "task" or self.fraction == 1:
            return
        self._step += 1
        self._frozen = self._draw(self._step)
        for name, parameter in model.named_parameters():
            if name in self._frozen:
                parameter.grad = None
        self._count(model)

    def activity(self) -> dict[str, float]:
        share = self._frozen_entries / self._all_entries if self._all_entries else 0.0
        return {"frozen_share": share, "active": float(share > 0), "scope": share}

    def _draw(self, step: int) -> frozenset[str]:
        return frozenset(self._blocks) - draw_blocks(self._blocks, self.fraction, self._seed, step)

    def _count(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            self._all_entries += parameter.numel()
            self._frozen_entries += parameter.numel() * (name in self._frozen)
