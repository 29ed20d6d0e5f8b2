"""EASE: an adapter a task, and prototypes of all classes in the feature spaces of all of them.

[0] Zhou et al., *Expandable subspace ensemble for pre-trained model-based class-incremental
    learning*, and its program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from clbench.methods.adapters import acting, add_adapters
from clbench.methods.base import Context
from clbench.methods.collected import Collecting, collected
from clbench.models.backbone import features
from clbench.streams import Task
from clbench.weights import State


def complemented(means_KCF: Tensor, own_C: Tensor, later: bool = False) -> Tensor:
    """Prototypes of old classes in the spaces of later tasks, from how alike classes are [0].

    A class c of task o has in the space of a task k > o the mean of the prototypes of k's classes
    j, weighted by the softmax over j of the cosines of c and j in the space of o.

    Args:
        means_KCF: of each class in the spaces of its own and earlier tasks; no others are read.
        own_C: int64, each class's task; -1: none as yet.
        later: whether the classes of tasks after k take part as well, as in the program.
    """
    means_KCF = means_KCF.clone()
    for k in range(len(means_KCF)):
        from_J = own_C >= k if later else own_C == k
        for o in range(k):
            alike_OJ = _cosine(means_KCF[o][own_C == o], means_KCF[o][from_J])
            means_KCF[k, own_C == o] = alike_OJ.softmax(1) @ means_KCF[k][from_J]
    return means_KCF


def ensemble(features_BKF: Tensor, means_KCF: Tensor, own_C: Tensor, alpha: float) -> Tensor:
    """Logits (B, C): the cosine in the space of a class's own task, and α times all others [0]."""
    cosines_KBC = torch.stack([_cosine(features_BKF[:, k], m) for k, m in enumerate(means_KCF)])
    own_KC = torch.arange(len(means_KCF), device=own_C.device)[:, None] == own_C
    weight_KC = own_KC.to(cosines_KBC) * (1 - alpha) + alpha
    return (cosines_KBC * weight_KC[:, None]).sum(0)


def _cosine(one_BF: Tensor, other_CF: Tensor) -> Tensor:
    return F.normalize(one_BF, dim=1) @ F.normalize(other_CF, dim=1).T


class EASE(Collecting):
    """Trains an adapter and the head in each task, and classifies by prototypes in all spaces [0].

    The trunk and earlier adapters rest. Images pass the network once for each task so far, in
    evaluation and when means are taken. As the authors' program has it::

        methods:
          ease: {others: mean, complement: later}
    """

    summary: ClassVar[str] = "an adapter a task, and prototypes in all of their feature spaces"
    still: ClassVar[bool] = True
    networks: ClassVar[tuple[type[nn.Module], ...]] = (VisionTransformer,)
    alone: ClassVar[str] = "adapts by weights of its own, a task at a time, and goes with no other"

    tuned: Literal["never", "first", "always"] = Field(
        "always", description="in which tasks adapters are trained; others leave the features"
    )
    bottleneck: int = Field(64, ge=1, description="of adapters; AdaptFormer's")
    scale: float = Field(0.1, gt=0, description="what adapters' outputs are multiplied by")
    alpha: float = Field(0.1, ge=0, description="α, of the spaces of other tasks than a class's")
    others: Literal["sum", "mean"] = Field(
        "sum", description="α times the sum of these (the paper), or their mean (the program)"
    )
    complement: Literal["task", "later"] = Field(
        "task",
        description="old prototypes come of a space's own task (the paper), or of later ones too",
    )

    _current: str = ""
    #: ``tasks`` (K,) that have adapters, ``own`` (C,), each class's place among them, and
    #: ``sums`` (K, C, F), float64, with ``counts`` (K, C) of features in their spaces.
    _memory: dict[str, Tensor] = {}

    def adapt(self, model: nn.Module, task: Task) -> nn.Module:
        add_adapters(model, str(task.index), self.bottleneck, self.scale)
        return model

    def start(self, context: Context) -> None:
        super().start(context)
        self._current = str(context.task.index)

    def trainable(self, name: str) -> bool:
        return self._trains and (name in self._head or f".adapters.{self._current}." in name)

    def to_classify(self, model: nn.Module, images: Tensor) -> Tensor:
        """Features in the spaces of all tasks so far, side by side (B, K·F)."""
        found = []
        for task in self._memory["tasks"].tolist():
            with acting(model, str(task)):
                found.append(features(model, images))
        return torch.cat(found, 1)

    def absorb(self, theta: State, context: Context) -> None:
        classes, width = theta[context.head[0]].shape
        old = self._memory or {
            "own": torch.full((classes,), -1),
            "tasks": torch.empty(0, dtype=torch.int64),
            "sums": torch.empty(0, classes, width, dtype=torch.float64),
            "counts": torch.empty(0, classes, dtype=torch.int64),
        }
        wider = {n: torch.cat([x, x.new_zeros(1, *x.shape[1:])]) for n, x in old.items()}
        self._memory, place = wider | {"own": old["own"].clone()}, len(old["tasks"])
        self._memory["tasks"][place] = context.task.index
        for found_BF, labels_B in collected(theta, context, None, self.to_classify, place + 1):
            labels_B, found_BKF = labels_B.cpu(), found_BF.cpu().unflatten(1, (-1, width))
            self._memory["sums"].index_add_(1, labels_B, found_BKF.transpose(0, 1))
            self._memory["counts"] += torch.bincount(labels_B, minlength=classes)
            self._memory["own"][labels_B] = place
        self._activity = {"active": 1.0, "spaces": place + 1.0}

    def classifier(self) -> Callable[[Tensor], Tensor] | None:
        if not self._memory:
            return None
        own_C, sums_KCF, counts_KC = (self._memory[name] for name in ("own", "sums", "counts"))
        means_KCF = sums_KCF / counts_KC.clamp(min=1)[..., None]
        means_KCF = complemented(means_KCF, own_C, self.complement == "later").float()
        share = max(1, len(means_KCF) - 1) if self.others == "mean" else 1

        def classify(features_BF: Tensor) -> Tensor:
            found_BKF = features_BF.unflatten(1, means_KCF.shape[::2])
            with torch.autocast(features_BF.device.type, enabled=False):
                known = (means_KCF.to(found_BKF.device), own_C.to(found_BKF.device))
                return ensemble(found_BKF, *known, self.alpha / share)

        return classify
