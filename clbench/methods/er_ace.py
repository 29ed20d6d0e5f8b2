"""ER-ACE: experience replay in which new samples do not push the old classes down.

[0] Caccia et al., *New insights on reducing abrupt representation change in online continual
    learning*, eq. 4: the asymmetric cross-entropy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clbench.data.sending import sent
from clbench.methods.base import Context, Forward, Needs
from clbench.methods.rehearsal import FIRST, Rehearsing
from clbench.processes.processes import gathered


def present(labels_B: Tensor, classes: int) -> Tensor:
    """The classes bool (C,) that a batch has samples of.

    >>> present(Tensor([2, 0, 2]).long(), 4).tolist()
    [True, False, True, False]
    """
    return F.one_hot(labels_B, classes).sum(0) > 0


class ERACE(Rehearsing):
    """CE of new samples among their batch's own classes, plus CE of stored ones among all seen [0].

    So that a new class does not push old ones down before they are replayed. Replayed is a batch
    from a reservoir, its loss weighed by λ (1 in [0]). The new samples' mask holds on top of
    ``train_logits``::

        methods: {er_ace: {size: 500}}
        train_logits: seen
    """

    summary: ClassVar[str] = "replay; new samples are compared with their batch's classes alone"
    neutral: ClassVar[Mapping[str, float]] = {"strength": 0.0}
    needs: ClassVar[Needs] = Needs(past_data=True, past_tasks=True, passes=1)
    mixable: ClassVar[bool | None] = False  # the other image's class is not of its own batch

    strength: float = Field(
        1.0, ge=0, description="λ, of the replayed samples' loss; 0 is off, the mask as well"
    )

    #: bool (C,): classes seen so far, this task's included.
    _known: Tensor | None = None

    @property
    def _on(self) -> bool:
        return self.strength > 0

    def start(self, context: Context) -> None:
        super().start(context)
        self._known = context.seen_C

    def rows(self, context: Context) -> Tensor | None:
        return self._known if self._on else None

    def admit(self, labels_B: Tensor, excluded_BC: Tensor) -> Tensor:
        if not self._on:
            return excluded_BC
        return excluded_BC | ~present(gathered(labels_B), excluded_BC.shape[1])

    def penalty(self, forward: Forward) -> Tensor | None:
        if not self._on or not len(self._index):
            return None
        assert self._known is not None
        chosen, logits_BC, share = self._replayed(forward, FIRST)
        labels_B = sent(self._labels[chosen], logits_BC.device)
        unknown_BC = (~self._known).expand_as(logits_BC)
        losses_B = self._context.losses(logits_BC, labels_B, unknown_BC)
        value = share * forward.batch.part * losses_B.mean()
        self._last.add(forward.step, "replayed_loss", value)
        return self.strength * value
