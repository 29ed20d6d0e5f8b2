"""Small pretraining: a backbone trained from scratch on the stream's pretraining classes, once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from clbench.data.batches import Batches, Examples, Split
from clbench.data.transforms import Transform
from clbench.errors import ClbenchError, reason
from clbench.files.disk import atomic
from clbench.files.lock import alone
from clbench.models.backbone import create, head_names
from clbench.models.batch_norm import least_batch
from clbench.models.finite import flaw
from clbench.models.settings import ModelConfig, Pretraining
from clbench.seeding import seed_everything
from clbench.streams import Stream
from clbench.weights import State, sha256


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
