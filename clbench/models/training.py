"""Training of a linear head on features that do not change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.reader import Reader
from clbench.data.transforms import DRAWS
from clbench.errors import ClbenchError
from clbench.models.backbone import features
from clbench.models.batch_norm import chunks, least_batch, moving
from clbench.models.modes import evaluating
from clbench.models.settings import Probe
from clbench.seeding import generator
from clbench.streams import Task
from clbench.weights import State


def extract(
    model: nn.Module, split: Split, reader: Reader, draws_ND: Tensor | None = None
) -> Tensor:
    """Features of all images of a split: float32 (N, F) on the device.

    Without ``draws_ND`` (N, DRAWS) the images are not augmented; with it, as these numbers say.
    """
    device = next(model.parameters()).device
    parts = []
    with evaluating(model), torch.no_grad():
        for inputs, _, _ in reader.batches(split, device, draws_ND=draws_ND):
            with reader.autocast():
                parts.append(features(model, inputs).float())
    return torch.cat(parts)


def features_in_training(
    model: nn.Module,
    split: Split,
    reader: Reader,
    parts: Sequence[Tensor],
    draws_ND: Tensor | None = None,
) -> Iterator[Tensor]:
    """Features (B, F) of one batch of a split after the other, under the batch's own statistics.

    The running statistics of ``model`` move with every batch.

    Args:
        model, split, reader, draws_ND: as for :func:`extract`.
        parts: positions in the split of each batch's samples.
    """
    device = next(model.parameters()).device
    for inputs, _, _ in reader.batches(split, device, parts, draws_ND):
        with moving(model), torch.no_grad(), reader.autocast():
            found = features(model, inputs).float()
        yield found


def linear_probe(
    features_NF: Tensor,
    labels_N: Tensor,
    classes: int,
    rules: Probe,
    *keys: int,
    start: nn.Linear | None = None,
    each_epoch: Callable[[int], Tensor] | None = None,
) -> tuple[nn.Linear, Tensor]:
    """Train a linear head on features that do not change.

    Args:
        features_NF: float32 (N, F).
        labels_N: int64 (N,), 0…classes-1.
        classes: rows of the head.
        rules: SGD's settings.
        keys: what the initialisation and the order depend on.
        start: the head to start from, which stays as it is; default: a random one.
        each_epoch: features (N, F) to train on in an epoch, from 0, in place of ``features_NF``.

    Returns:
        The head, and the (N,) cross-entropy losses of the samples under it, on ``features_NF``.

    Raises:
        ClbenchError: if the losses are not finite.
    """
    device, width = features_NF.device, features_NF.shape[1]

    def inputs(epoch: int, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        inputs_NF = features_NF if each_epoch is None else each_epoch(epoch)
        return (inputs_NF[chosen.to(device)] for chosen in parts)

    labels_N = labels_N.to(device)
    head = fit_head(inputs, labels_N, width, classes, rules, *keys, start=start)
    return head, losses_of(head, features_NF, labels_N, rules)


def fit_head(
    inputs: Callable[[int, Sequence[Tensor]], Iterator[Tensor]],
    labels_N: Tensor,
    width: int,
    classes: int,
    rules: Probe,
    *keys: int,
    start: nn.Linear | None = None,
    least: int = 1,
) -> nn.Linear:
    """Train a linear head with SGD.

    Args:
        inputs: features (B, F) of each batch of an epoch, from 0, given its samples' positions.
        labels_N: int64 (N,), 0…classes-1, on the device to train on.
        width: features of a sample, F.
        classes, rules, keys, start: as for :func:`linear_probe`.
        least: samples of a batch at least; what is left of an epoch joins the batch before it.
    """
    random = generator(*keys)
    head = nn.Linear(width, classes)
    bound = 1 / math.sqrt(width)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=random) * 2 * bound - bound)
    if start is not None:
        head.load_state_dict(start.state_dict())
    head.to(labels_N.device)
    optimizer = torch.optim.SGD(
        head.parameters(), rules.lr, rules.momentum, weight_decay=rules.weight_decay, fused=True
    )
    for epoch in range(rules.epochs):
        order = torch.randperm(len(labels_N), generator=random)
        parts = chunks(order, rules.batch_size, least)
        for inputs_BF, chosen in zip(inputs(epoch, parts), parts, strict=True):
            loss = F.cross_entropy(head(inputs_BF), labels_N[chosen.to(labels_N.device)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.requires_grad_(False)


def losses_of(head: nn.Linear, features_NF: Tensor, labels_N: Tensor, rules: Probe) -> Tensor:
    """Cross-entropy losses (N,) of samples under a head that was trained by ``rules``.

    Raises:
        ClbenchError: if they are not finite.
    """
    with torch.no_grad():
        losses = F.cross_entropy(head(features_NF), labels_N, reduction="none")
    if not bool(losses.isfinite().all()):
        if not bool(features_NF.isfinite().all()):
            raise ClbenchError(
                "the network's features are not finite, so no linear probe can be trained on "
                "them: its weights have grown too large (lower optimizer.lr), or "
                "trainer.precision is too low"
            )
        raise ClbenchError(
            f"the linear probe diverged: its losses are not finite after {rules.epochs} epochs at "
            f"a learning rate of {rules.lr:g}; lower the probe's lr"
        )
    return losses


def train_head(
    model: nn.Module,
    task: Task,
    reader: Reader,
    rules: Probe,
    *keys: int,
    start: nn.Linear | None = None,
) -> tuple[nn.Linear, Tensor]:
    """Train a head for a task's classes on the frozen trunk of ``model``, which stays as it is.

    Every process of a run computes the same. The trunk is in evaluation mode, so that BatchNorm
    uses and keeps its running statistics. With ``rules.batch_norm: train`` BatchNorm is in training
    mode as in the authors' program of FLOW, and ``model`` has other running statistics afterwards:
    the losses are those under these, in evaluation mode.

    Args:
        model: the trunk; its own head is not used.
        task: its training images and classes.
        reader: reads the images; augments them where ``rules.augment`` is set.
        rules: SGD's settings.
        keys: what the initialisation, the order and the augmentation depend on.
        start: the head to start from; default: a random one.

    Returns:
        The head (rows: the task's classes), and the (N,) losses of the training images under it,
        without augmentation.

    Raises:
        ClbenchError: if the losses are not finite, or batches are too small for BatchNorm.
    """

    def take(draws_ND: Tensor | None = None) -> Tensor:
        return extract(model, task.train, reader, draws_ND)

    def draw(epoch: int) -> Tensor:
        return torch.rand(len(task.train), DRAWS, generator=generator(*keys, 1 + epoch))

    def augmented(epoch: int) -> Tensor:
        return take(draw(epoch))

    labels_N, count = task.train.labels - task.classes.start, len(task.classes)
    if rules.batch_norm == "eval":
        again = augmented if rules.augment else None
        return linear_probe(take(), labels_N, count, rules, *keys, start=start, each_epoch=again)
    least = least_batch(model, (), lambda name: True, reader.transform.size)
    if min(rules.batch_size, len(task.train)) < least:
        raise ClbenchError(
            f"task {task.name}: the probe's batch_size = {rules.batch_size} and {len(task.train)} "
            f"training images, but with batch_norm: train it needs at least {least} at a time"
        )

    def moved(epoch: int, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        draws = draw(epoch) if rules.augment else None
        return features_in_training(model, task.train, reader, parts, draws)

    labels_N = labels_N.to(next(model.parameters()).device)
    width = model.get_classifier().in_features  # type: ignore[operator]
    head = fit_head(moved, labels_N, width, count, rules, *keys, start=start, least=least)
    return head, losses_of(head, take(), labels_N, rules)


@torch.no_grad()
def put_rows(state: State, names: Sequence[str], classes: range, head: nn.Linear) -> None:
    """Write a task's head into its rows of the network's head, in place.

    Args:
        state: a network's state dict.
        names: of the head's parameters in it.
        classes: the rows.
        head: with as many rows.
    """
    for name in names:
        state[name][classes.start : classes.stop] = getattr(head, name.rsplit(".", 1)[-1])


def learned_rows(
    state: State, names: Sequence[str], classes: range, learned: Tensor
) -> nn.Linear | None:
    """A copy of a task's rows of the network's head, to go on from where all were learned.

    That is so where tasks share them; other heads start at random.

    Args:
        state, names, classes: as for :func:`put_rows`.
        learned: bool (C,), rows that were.
    """
    if not learned[classes.start : classes.stop].all():
        return None
    return rows_of(state, names, classes)


def rows_of(state: State, names: Sequence[str], classes: range) -> nn.Linear:
    """A copy of a task's rows of the network's head; the arguments are those of `put_rows`."""
    head = nn.Linear(state[names[0]].shape[1], len(classes))
    for name in names:
        own = getattr(head, name.rsplit(".", 1)[-1])
        own.data.copy_(state[name][classes.start : classes.stop])
    return head
