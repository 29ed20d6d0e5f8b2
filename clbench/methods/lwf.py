"""Learning without Forgetting (LwF): the old network's answers on new images are kept.

[0] Li & Hoiem, *Learning without forgetting*, eqs. 2 to 4.
[1] Hinton et al., *Distilling the knowledge in a neural network*, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context, Needs
from clbench.methods.distilling import Distilling, known_before


def distillation(
    logits_BC: Tensor, old_logits_BC: Tensor, temperature: float, groups: list[Tensor]
) -> Tensor:
    """KL(softmax(z_o/T) ‖ softmax(z/T)) of each sample, summed over groups of classes.

    It has the gradient of the cross-entropy in [0], and is 0 where nothing was forgotten. The T²
    of [1] is not in it.

    Args:
        logits_BC: z, of the network that is trained.
        old_logits_BC: z_o, of the one before the task.
        temperature: T, above 0.
        groups: int64 (K,) each: classes that are one softmax.

    Returns:
        (B,), at least 0, in nats.

    >>> z = torch.tensor([[1.0, 0.0]])
    >>> distillation(z, z, 2.0, [torch.tensor([0, 1])])
    tensor([0.])
    """
    total_B = torch.zeros_like(logits_BC[:, 0])
    for classes in groups:
        new, old = (
            F.log_softmax(z[:, classes] / temperature, 1) for z in (logits_BC, old_logits_BC)
        )
        total_B = total_B + (old.exp() * (old - new)).sum(1)
    return total_B


class LwF(Distilling):
    """Adds λ·Σ_old tasks KL(softmax(z_o/T) ‖ softmax(z/T)) on the new task's images [0].

    z_o are the logits of the network as it was before the task, on the same augmented images. The
    first task has none before it. [0] trains the new rows alone at first; ``model.head:
    linear_probe`` does. With the T² of [1], ``strength`` is λ·T².
    """

    summary: ClassVar[str] = "keep the old network's answers on the new task's images"
    neutral: ClassVar[Mapping[str, float]] = {"strength": 0.0}
    needs: ClassVar[Needs] = Needs(past_tasks=True, task_boundaries=True, copies=1, passes=1)

    temperature: float = Field(2.0, gt=0, description="T")
    among: Literal["task", "all"] = Field(
        "task",
        description="old classes in a softmax: those of each old task by itself (the paper), or "
        "all together (usual where tasks share one softmax)",
    )

    _groups: list[Tensor] = []

    def start(self, context: Context) -> None:
        super().start(context)
        self._groups = []
        if self._old is None:
            return
        old = known_before(context).nonzero().flatten()
        owner = context.losses.task_of_class[old]
        apart = self.among == "task"
        self._groups = [old[owner == task] for task in owner.unique()] if apart else [old]

    def _apart(self, logits_BC: Tensor, old_BC: Tensor) -> Tensor:
        return distillation(logits_BC, old_BC, self.temperature, self._groups)
