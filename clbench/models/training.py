"""Training that happens before a task: a linear head on frozen features, and small pretraining."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
import torch.nn.functional as F
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clbench.data.batches import Batches, Examples, Split, fetch_ahead
from clbench.data.transforms import Transform
from clbench.errors import ClbenchError
from clbench.evaluate import evaluating
from clbench.models.backbone import ModelConfig, Pretraining, Probe, create, features
from clbench.seeding import generator, seed_everything
from clbench.streams import Stream
from clbench.weights import State


def extract(
    model: nn.Module,
    split: Split,
    transform: Transform,
    batch_size: int,
    workers: int,
    autocast: Callable[[], AbstractContextManager[object]],
) -> Tensor:
    """Features of all images of a split, without augmentation: float32 (N, F) on the device."""
    device = next(model.parameters()).device
    parts = []
    fetched = fetch_ahead(
        split.images.take, split.index.split(batch_size), workers if split.images.slow else 0
    )
    with evaluating(model), torch.no_grad():
        for images in fetched:
            inputs = transform.test(images.to(device))
            with autocast():
                parts.append(features(model, inputs).float())
    return torch.cat(parts)


def linear_probe(
    features_NF: Tensor, labels_N: Tensor, classes: int, rules: Probe, *keys: int
) -> tuple[nn.Linear, Tensor]:
    """Train a linear head on features that do not change.

    Args:
        features_NF: float32 (N, F).
        labels_N: int64 (N,), 0…classes-1.
        classes: rows of the head.
        rules: SGD's settings.
        keys: what the initialisation and the order depend on.

    Returns:
        The head, and the (N,) cross-entropy losses of the samples under it.
    """
    random = generator(*keys)
    device = features_NF.device
    head = nn.Linear(features_NF.shape[1], classes)
    bound = 1 / math.sqrt(features_NF.shape[1])
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=random) * 2 * bound - bound)
    head.to(device)
    labels_N = labels_N.to(device)
    optimizer = torch.optim.SGD(
        head.parameters(), rules.lr, rules.momentum, weight_decay=rules.weight_decay, fused=True
    )
    for _ in range(rules.epochs):
        order = torch.randperm(len(labels_N), generator=random).to(device)
        for chosen in order.split(rules.batch_size):
            loss = F.cross_entropy(head(features_NF[chosen]), labels_N[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        losses = F.cross_entropy(head(features_NF), labels_N, reduction="none")
    return head.requires_grad_(False), losses


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
        ClbenchError: if the cache cannot be written.
    """
    assert stream.pretraining is not None
    data, _ = stream.pretraining
    path = pretrained_path(config, stream, transform, seed, cache)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                say(f"Pretrained weights from {path}")
                return load_file(path)
            say(f"Pretraining {config.backbone} on {len(data):,} images (kept in {path})")
            state = _train(config, data, transform, seed, device)
            partial = path.with_suffix(".partial")
            save_file(state, partial)
            partial.replace(path)
    except OSError as error:
        raise ClbenchError(
            f"the cache of pretrained weights {cache} cannot be used: {error}"
        ) from error
    return state


def _train(
    config: ModelConfig, data: Split, transform: Transform, seed: int, device: torch.device
) -> State:
    rules: Pretraining = config.pretraining
    seed_everything(seed, 0)
    model = create(config, int(data.labels.max()) + 1, transform.size).to(device)
    batches = Batches(Examples(data), rules.batch_size, (seed, 0))
    total = rules.epochs * len(batches)
    optimizer = torch.optim.AdamW(
        model.parameters(), rules.lr, weight_decay=rules.weight_decay, fused=True
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    model.train()
    for _ in range(rules.epochs):
        for batch in batches:
            inputs = transform.test(batch.images.to(device))
            loss = F.cross_entropy(model(inputs), batch.labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cosine.step()
    return {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
