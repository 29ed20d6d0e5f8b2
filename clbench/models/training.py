"""Training that happens before a task: a linear head on frozen features, and small pretraining."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from clbench.data.batches import Batches, Examples, Split, fetch_ahead
from clbench.data.transforms import DRAWS, Transform
from clbench.errors import ClbenchError, reason
from clbench.files.disk import atomic
from clbench.files.lock import alone
from clbench.models.backbone import (
    ModelConfig,
    Pretraining,
    Probe,
    create,
    features,
    head_names,
)
from clbench.models.batch_norm import chunks, least_batch, moving
from clbench.models.finite import flaw
from clbench.models.modes import evaluating
from clbench.seeding import generator, seed_everything
from clbench.streams import Stream, Task
from clbench.weights import State, sha256


@dataclass(frozen=True)
class Reading:
    """How a run passes images through its network where it does not train on them.

    Attributes:
        batch_size: samples of a batch.
        workers: threads that read ahead where images are slow.
        autocast: makes the context of the forward pass (mixed precision).
    """

    batch_size: int = 256
    workers: int = 4
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext


def extract(
    model: nn.Module,
    split: Split,
    transform: Transform,
    batch_size: int,
    workers: int,
    autocast: Callable[[], AbstractContextManager[object]],
    draws_ND: Tensor | None = None,
) -> Tensor:
    """Features of all images of a split: float32 (N, F) on the device.

    Without ``draws_ND`` (N, DRAWS) the images are not augmented; with it, as these numbers say.
    """
    device = next(model.parameters()).device
    parts = []
    fetched = fetch_ahead(
        split.images.take, split.index.split(batch_size), workers if split.images.slow else 0
    )
    draws = iter(()) if draws_ND is None else iter(draws_ND.split(batch_size))
    with evaluating(model), torch.no_grad():
        for images in fetched:
            pixels, numbers = images.to(device), next(draws, None)
            inputs = (
                transform.test(pixels)
                if numbers is None
                else transform.train(pixels, numbers.to(device))
            )
            with autocast():
                parts.append(features(model, inputs).float())
    return torch.cat(parts)


def features_in_training(
    model: nn.Module,
    split: Split,
    transform: Transform,
    workers: int,
    autocast: Callable[[], AbstractContextManager[object]],
    parts: Sequence[Tensor],
    draws_ND: Tensor | None = None,
) -> Iterator[Tensor]:
    """Features (B, F) of one batch of a split after the other, under the batch's own statistics.

    The running statistics of ``model`` move with every batch.

    Args:
        model, split, transform, workers, autocast, draws_ND: as for :func:`extract`.
        parts: positions in the split of each batch's samples.
    """
    device = next(model.parameters()).device
    fetched = fetch_ahead(
        split.images.take,
        [split.index[chosen] for chosen in parts],
        workers if split.images.slow else 0,
    )
    for images, chosen in zip(fetched, parts, strict=True):
        pixels = images.to(device)
        with moving(model), torch.no_grad(), autocast():
            inputs = (
                transform.test(pixels)
                if draws_ND is None
                else transform.train(pixels, draws_ND[chosen].to(device))
            )
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
    transform: Transform,
    rules: Probe,
    *keys: int,
    start: nn.Linear | None = None,
    batch_size: int = 256,
    workers: int = 4,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[nn.Linear, Tensor]:
    """Train a head for a task's classes on the frozen trunk of ``model``, which stays as it is.

    Every process of a run computes the same. The trunk is in evaluation mode, so that BatchNorm
    uses and keeps its running statistics. With ``rules.batch_norm: train`` BatchNorm is in training
    mode as in the authors' program of FLOW, and ``model`` has other running statistics afterwards:
    the losses are those under these, in evaluation mode.

    Args:
        model: the trunk; its own head is not used.
        task: its training images and classes.
        transform: turns stored images into input; augments them where ``rules.augment`` is set.
        rules: SGD's settings.
        keys: what the initialisation, the order and the augmentation depend on.
        start: the head to start from; default: a random one.
        batch_size, workers, autocast: of the passes that extract features.

    Returns:
        The head (rows: the task's classes), and the (N,) losses of the training images under it,
        without augmentation.

    Raises:
        ClbenchError: if the losses are not finite, or batches are too small for BatchNorm.
    """

    def take(draws_ND: Tensor | None = None) -> Tensor:
        return extract(model, task.train, transform, batch_size, workers, autocast, draws_ND)

    def draw(epoch: int) -> Tensor:
        return torch.rand(len(task.train), DRAWS, generator=generator(*keys, 1 + epoch))

    def augmented(epoch: int) -> Tensor:
        return take(draw(epoch))

    labels_N, count = task.train.labels - task.classes.start, len(task.classes)
    if rules.batch_norm == "eval":
        again = augmented if rules.augment else None
        return linear_probe(take(), labels_N, count, rules, *keys, start=start, each_epoch=again)
    least = least_batch(model, (), lambda name: True, transform.size)
    if min(rules.batch_size, len(task.train)) < least:
        raise ClbenchError(
            f"task {task.name}: the probe's batch_size = {rules.batch_size} and {len(task.train)} "
            f"training images, but with batch_norm: train it needs at least {least} at a time"
        )

    def moved(epoch: int, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        draws = draw(epoch) if rules.augment else None
        return features_in_training(model, task.train, transform, workers, autocast, parts, draws)

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


def pretrained_path(
    config: ModelConfig, stream: Stream, transform: Transform, seed: int, cache: Path
) -> Path:
    """Where :func:`pretrain` keeps its result; the arguments are its own."""
    assert stream.pretraining is not None
    data, _ = stream.pretraining
    key = {
        "backbone": config.backbone,
        "options": config.options,
        "pretraining": config.pretraining.model_dump(),
        "size": transform.size,
        "images": stream.manifest["train_images"],
        "labels": hashlib.sha256(
            data.index.numpy().tobytes() + data.labels.numpy().tobytes()
        ).hexdigest(),
        "normalisation": [transform.scale.tolist(), transform.shift.tolist()],
        "seed": seed,
        "version": 1,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return cache / f"pretrained-{config.backbone}-{digest}.safetensors"


def pretrain(
    config: ModelConfig,
    stream: Stream,
    transform: Transform,
    seed: int,
    device: torch.device,
    cache: Path,
    say: Callable[[str], None] = print,
) -> State:
    """Train the backbone from scratch on the stream's pretraining classes, once.

    Args:
        config: the network and how to train it.
        stream: has ``pretraining`` data.
        transform: turns stored images into network input (without augmentation here).
        seed: of the initialisation and the order.
        device: where to train.
        cache: folder for the result; the same settings and data find it again.
        say: told what happens.

    Returns:
        The state dict, with a classifier over the pretraining classes.

    Raises:
        ClbenchError: if the cache cannot be written, or training diverges: that is not kept.
    """
    assert stream.pretraining is not None
    data, _ = stream.pretraining
    path = pretrained_path(config, stream, transform, seed, cache)
    try:
        kept = _kept(path, say)  # without the lock: the folder may be one that cannot be written
        if kept is not None:
            return kept
        cache.mkdir(parents=True, exist_ok=True)
        with alone(cache, wait=math.inf, name=f"{path.stem}.lock"):
            kept = _kept(path, say)
            if kept is None:
                say(f"Pretraining {config.backbone} on {len(data):,} images (kept in {path})")
                kept = _train(config, data, transform, seed, device)
                with atomic(path) as file:
                    file.write(save(kept, {"sha256": sha256(kept)}))
    except OSError as error:
        raise ClbenchError(
            f"the cache of pretrained weights {cache} cannot be used: {reason(error)}: make room "
            "there, or say --data_dir on another disk"
        ) from error
    return kept


def _kept(path: Path, say: Callable[[str], None]) -> State | None:
    """Pretrained weights from their cache; None if there are none, or what is there is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            whole = (file.metadata() or {}).get("sha256") == sha256(state)
    except (OSError, SafetensorError):
        whole = False
    if not whole:
        say(f"{path} is damaged, or of an earlier version: it is made anew")
        return None
    say(f"Pretrained weights from {path}")
    return state


def _train(
    config: ModelConfig, data: Split, transform: Transform, seed: int, device: torch.device
) -> State:
    rules: Pretraining = config.pretraining
    seed_everything(seed, 0)
    model = create(config, int(data.labels.max()) + 1, transform.size).to(device)
    head = head_names(model)
    least = least_batch(model, head, lambda name: True, transform.size)
    batches = Batches(Examples(data), rules.batch_size, (seed, 0), least=least)
    total = rules.epochs * len(batches)
    optimizer = torch.optim.AdamW(
        model.parameters(), rules.lr, weight_decay=rules.weight_decay, fused=True
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    model.train()
    for epoch in range(rules.epochs):
        losses = []
        for batch in batches:
            inputs = transform.test(batch.images.to(device))
            loss = F.cross_entropy(model(inputs), batch.labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cosine.step()
            losses.append(loss.detach())
        if not bool(torch.stack(losses).isfinite().all()):
            raise _diverged(config, f"its loss is not finite in epoch {epoch + 1}")
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if found := flaw(state, state):
        raise _diverged(config, found)
    return state


def _diverged(config: ModelConfig, how: str) -> ClbenchError:
    return ClbenchError(
        f"pretraining {config.backbone} diverged ({how}): lower model.pretraining.lr, which is "
        f"{config.pretraining.lr:g}; nothing was kept"
    )
