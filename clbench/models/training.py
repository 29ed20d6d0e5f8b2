"""Training that happens before a task: a linear head on frozen features, and small pretraining."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from clbench.batch_norm import least_batch
from clbench.data.batches import Batches, Examples, Split, fetch_ahead
from clbench.data.transforms import DRAWS, Transform
from clbench.disk import atomic
from clbench.errors import ClbenchError, reason
from clbench.evaluate import evaluating
from clbench.finite import flaw
from clbench.lock import alone
from clbench.models.backbone import (
    ModelConfig,
    Pretraining,
    Probe,
    create,
    features,
    head_names,
)
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
    random = generator(*keys)
    device = features_NF.device
    head = nn.Linear(features_NF.shape[1], classes)
    bound = 1 / math.sqrt(features_NF.shape[1])
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=random) * 2 * bound - bound)
    if start is not None:
        head.load_state_dict(start.state_dict())
    head.to(device)
    labels_N = labels_N.to(device)
    optimizer = torch.optim.SGD(
        head.parameters(), rules.lr, rules.momentum, weight_decay=rules.weight_decay, fused=True
    )
    for epoch in range(rules.epochs):
        inputs_NF = features_NF if each_epoch is None else each_epoch(epoch)
        order = torch.randperm(len(labels_N), generator=random).to(device)
        for chosen in order.split(rules.batch_size):
            loss = F.cross_entropy(head(inputs_NF[chosen]), labels_N[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
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
    return head.requires_grad_(False), losses


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
    uses and keeps its running statistics.

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
    """

    def take(draws_ND: Tensor | None = None) -> Tensor:
        return extract(model, task.train, transform, batch_size, workers, autocast, draws_ND)

    def augmented(epoch: int) -> Tensor:
        return take(torch.rand(len(task.train), DRAWS, generator=generator(*keys, 1 + epoch)))

    return linear_probe(
        take(),
        task.train.labels - task.classes.start,
        len(task.classes),
        rules,
        *keys,
        start=start,
        each_epoch=augmented if rules.augment else None,
    )


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
