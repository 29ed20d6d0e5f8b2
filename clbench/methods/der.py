"""Dark experience replay (DER, DER++): past images with the logits they had.

[0] Buzzega et al., *Dark experience for general continual learning: a strong, simple baseline*,
    eqs. 5 and 6, Algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clbench.data.sending import sent
from clbench.methods.base import Context, Forward, Needs
from clbench.methods.rehearsal import FIRST, SECOND, Rehearsing
from clbench.weights import State


class Dark(Rehearsing):
    """Adds α·‖z(x′) − z′‖² and β·CE(z(x″), y″), each of a batch drawn from a reservoir; abstract.

    The square is a mean over samples and classes, as in the authors' program. z′ are the logits of
    x′ when it came by in training.
    """

    mixable: ClassVar[bool | None] = False  # a stored logit is of one image
    stored: ClassVar[tuple[str, ...]] = ("index", "labels", "logits")

    alpha: float = Field(0.3, ge=0, description="α, of the distance from stored logits; 0 is off")

    #: Logits (N, C) of what is stored.
    _logits: Tensor = torch.empty(0, 0)

    @property
    def of_labels(self) -> float:
        """β."""
        return 0.0

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """A pass for each of the replayed batches."""
        passes = (self.alpha > 0) + (self.of_labels > 0)
        return Needs(past_data=True, past_tasks=True, passes=passes)

    @property
    def _on(self) -> bool:
        return self.alpha > 0 or self.of_labels > 0

    def rows(self, context: Context) -> Tensor | None:
        """All: stored logits are of all classes."""
        return torch.ones_like(context.losses.idle) if self._on else None

    def penalty(self, forward: Forward) -> Tensor | None:
        if not self._on or not len(self._index):
            return None
        total, part = torch.zeros((), device=forward.logits_BC.device), forward.batch.part
        if self.alpha:
            chosen, logits_BC, share = self._replayed(forward, FIRST)
            stored_BC = sent(self._logits[chosen], logits_BC.device)
            value = share * part * F.mse_loss(logits_BC, stored_BC)
            self._last.add(forward.step, "logits_distance", value)
            total = total + self.alpha * value
        if self.of_labels:
            chosen, logits_BC, share = self._replayed(forward, SECOND)
            labels_B = sent(self._labels[chosen], logits_BC.device)
            value = share * part * self._context.losses(logits_BC, labels_B).mean()
            self._last.add(forward.step, "replayed_loss", value)
            total = total + self.of_labels * value
        return total

    def _of(self, forward: Forward) -> State:
        return super()._of(forward) | {"logits": forward.logits_BC.detach().float()}


class DERpp(Dark):
    """Adds α·‖z(x′) − z′‖² and β·CE(z(x″), y″), each of a batch drawn from a reservoir [0].

    z′ are the logits of x′ when it came by in training. The cross-entropy is among the classes of
    ``train_logits``; the paper's is ``all``. ``beta: 0`` is DER.
    """

    summary: ClassVar[str] = "replay past images with the logits they had (DER++; DER: beta 0)"
    neutral: ClassVar[Mapping[str, float]] = {"alpha": 0.0, "beta": 0.0}

    beta: float = Field(0.5, ge=0, description="β, of the replayed samples' loss; 0 is DER")

    @property
    def of_labels(self) -> float:
        return self.beta


class DER(Dark):
    """Adds α·‖z(x′) − z′‖², z′ the logits that x′ had when it came by in training [0, eq. 5].

    It is ``der_pp`` with ``beta: 0``, bit for bit. The paper trains among all classes::

        methods: {der: {alpha: 0.3, size: 500}}
        train_logits: all
    """

    summary: ClassVar[str] = "replay past images by the logits they had, without labels"
    neutral: ClassVar[Mapping[str, float]] = {"alpha": 0.0}
