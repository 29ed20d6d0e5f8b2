"""What methods share that keep the old network's answers on the images that are trained on."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context, Forward, Method
from clbench.methods.forward import LastStep
from clbench.models.reference import frozen_copy


def known_before(context: Context) -> Tensor:
    """Classes bool (C,) that the network knew before the task."""
    old_C = context.anchors.previous.learned.to(context.device).clone()
    if not context.shared:
        old_C[context.task.classes.start : context.task.classes.stop] = False
    return old_C


class Distilling(Method):
    """Adds λ times how far a sample's answers are from the old network's; abstract.

    The old network is that before the task, and sees the same augmented images. The first task has
    none before it. Rows of the classes that it knew move.
    """

    every_batch: ClassVar[bool] = True
    mixable: ClassVar[bool | None] = False  # matches answers image by image

    strength: float = Field(1.0, ge=0, description="λ; 0 is off")

    _old: nn.Module | None = None
    _last: LastStep = LastStep()
    _told: dict[str, float] = {}

    def start(self, context: Context) -> None:
        self._old, self._last, self._told = None, LastStep(), {}
        if not context.first and self.strength:
            self._old = frozen_copy(context.model, context.anchors.previous.state, shared=True)

    @abstractmethod
    def _apart(self, logits_BC: Tensor, old_BC: Tensor) -> Tensor:
        """How far answers are from the old ones, (B,)."""

    def rows(self, context: Context) -> Tensor | None:
        return None if self._old is None else known_before(context)

    def penalty(self, forward: Forward) -> Tensor | None:
        if self._old is None:
            return None
        with torch.no_grad():
            old_BC = self._old(forward.inputs).float()
        kept = forward.mean(self._apart(forward.logits_BC.float(), old_BC))
        self._last.add(forward.step, "divergence", kept)
        return self.strength * kept

    def finish(self, context: Context) -> None:
        self._old, self._told = None, self._last.means()

    def activity(self) -> dict[str, float]:
        return {"active": float(bool(self._told)), "divergence": 0.0} | self._told
