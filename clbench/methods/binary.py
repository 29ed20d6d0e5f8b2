"""Losses that ask about each class by itself, with a sigmoid.

[0] Rebuffi et al., *iCaRL: incremental classifier and representation learning*, Algorithm 3.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def binary_losses(
    logits_BC: Tensor, labels_B: Tensor, classes_K: Tensor, smoothing: float = 0.0
) -> Tensor:
    """−Σ_c [y=c]·log σ(z_c) + [y≠c]·log(1 − σ(z_c)) over some classes, of each sample: (B,) [0].

    Args:
        logits_BC: z.
        labels_B: y; where it is none of the classes, it is none in any of the terms.
        classes_K: int64, the classes.
        smoothing: the share of the target that is spread over them.
    """
    of_class = (labels_B[:, None] == classes_K).to(logits_BC)
    targets_BK = (1 - smoothing) * of_class + smoothing / len(classes_K)
    logits_BK = logits_BC[:, classes_K]
    return F.binary_cross_entropy_with_logits(logits_BK, targets_BK, reduction="none").sum(1)


def binary_distillation(logits_BC: Tensor, old_logits_BC: Tensor, classes_K: Tensor) -> Tensor:
    """Σ_c KL(σ(z_o,c) ‖ σ(z_c)) of each sample, (B,): what one is sure of in each class by itself.

    It has the gradient of the cross-entropy in [0], and is 0 where nothing was forgotten.

    Args:
        logits_BC: z, of the network that is trained.
        old_logits_BC: z_o, of the one before the task.
        classes_K: int64, the old classes.
    """
    new, old = (z[:, classes_K] for z in (logits_BC, old_logits_BC))
    yes = old.sigmoid() * (F.logsigmoid(old) - F.logsigmoid(new))
    no = (-old).sigmoid() * (F.logsigmoid(-old) - F.logsigmoid(-new))
    return (yes + no).sum(1)
