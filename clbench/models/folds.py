"""Losses of samples under heads that did not see them: a linear probe in k folds.

In the sample, a head of as many features as images fits them all, and its losses say how long it
was trained rather than how hard the images are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.reader import Reader
from clbench.data.transforms import DRAWS
from clbench.models.settings import Probe
from clbench.models.training import extract, linear_probe
from clbench.seeding import generator
from clbench.streams import Task


@dataclass(frozen=True)
class FoldHeads:
    """A head for each fold, trained on the others.

    Attributes:
        weight_KCF: of the heads.
        bias_KC: of the heads.
        fold_N: int64 (N,), each sample's own fold.
        losses_N: cross-entropy of each sample under the head of its fold.
    """

    weight_KCF: Tensor
    bias_KC: Tensor
    fold_N: Tensor
    losses_N: Tensor

    def logits(self, features_BF: Tensor, fold_B: Tensor) -> Tensor:
        """Logits (B, C) of samples, each by the head of its fold."""
        logits_KBC = torch.einsum("bf,kcf->kbc", features_BF, self.weight_KCF)
        logits_KBC += self.bias_KC[:, None]
        return logits_KBC[fold_B, torch.arange(len(fold_B), device=fold_B.device)]


def folds_of(labels_N: Tensor, folds: int, *keys: int) -> Tensor:
    """Divide samples into folds at random, each class as evenly as can be.

    Args:
        labels_N: int64 (N,).
        folds: k, at most N.
        keys: what the draw depends on.

    Returns:
        int64 (N,), the fold of each sample, 0…k-1; sizes differ by one at most.
    """
    order = torch.randperm(len(labels_N), generator=generator(*keys))
    order = order[labels_N.cpu()[order].argsort(stable=True)]
    fold_N = torch.empty_like(order)
    fold_N[order] = torch.arange(len(order)) % folds
    return fold_N


def train_fold_heads(
    model: nn.Module,
    task: Task,
    reader: Reader,
    rules: Probe,
    folds: int,
    *keys: int,
) -> FoldHeads:
    """Train a head for each fold of a task's images, on the frozen trunk of ``model``.

    Every process of a run computes the same. The trunk is in evaluation mode, whatever
    ``rules.batch_norm`` says: there is one trunk for all folds, with the statistics it has.

    Args:
        model: the trunk; its own head is not used.
        task: its training images and classes.
        reader: reads the images; augments them where ``rules.augment`` is set.
        rules: SGD's settings.
        folds: k, 2 up to the number of images.
        keys: what folds, initialisation, order and augmentation depend on.

    Raises:
        ClbenchError: if a head diverges.
    """
    train, classes = task.train, task.classes
    found_NF = extract(model, train, reader)
    labels_N = (train.labels - classes.start).to(found_NF.device)
    fold_N = folds_of(train.labels, folds, *keys).to(found_NF.device)
    losses_N = torch.empty(len(train), device=found_NF.device)
    heads = []
    for fold in range(folds):
        own = fold_N == fold
        rest = (~own).cpu()
        part = Split(train.images, train.index[rest], train.labels[rest])

        def augmented(epoch: int, part: Split = part, fold: int = fold) -> Tensor:
            random = generator(*keys, fold, 1 + epoch)
            draws_ND = torch.rand(len(part), DRAWS, generator=random)
            return extract(model, part, reader, draws_ND)

        head, _ = linear_probe(
            found_NF[~own],
            labels_N[~own],
            len(classes),
            rules,
            *(*keys, fold),
            each_epoch=augmented if rules.augment else None,
        )
        heads.append(head)
        losses_N[own] = F.cross_entropy(head(found_NF[own]), labels_N[own], reduction="none")
    return FoldHeads(
        torch.stack([head.weight for head in heads]).detach(),
        torch.stack([head.bias for head in heads]).detach(),
        fold_N,
        losses_N.detach(),
    )
