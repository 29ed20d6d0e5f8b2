"""Algebra on weights: a tensor, or a state dict of tensors, stands for a point in weight space."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

State = dict[str, Tensor]
Vector = TypeVar("Vector", Tensor, Mapping[str, Tensor])


def lerp(a: Vector, b: Vector, t: float) -> Vector:
    """The point ``(1 - t)·a + t·b``; exactly ``a`` at ``t = 0`` and exactly ``b`` at ``t = 1``.

    Args:
        a: a tensor of any shape, or a state dict.
        b: the same structure and shapes.
        t: how far to go from ``a`` to ``b``, in [0, 1].

    Returns:
        New weights. Entries that are not floating point (counters) are taken from ``a``.

    Raises:
        ValueError: if ``t`` is outside [0, 1], or the keys or shapes differ.

    >>> lerp(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 4.0]), 0.5)
    tensor([0.5000, 3.0000])
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t must be in [0, 1], got {t}")
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape:
            raise ValueError(f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}")
        return torch.lerp(a, b.to(a), t) if a.is_floating_point() else a.clone()
    same_keys(a, b)
    return {name: lerp(a[name], b[name], t) for name in a}  # type: ignore[return-value]


def distance(a: Vector, b: Vector) -> float:
    """Euclidean distance ‖a − b‖₂ over all floating-point entries, in weight units.

    Args:
        a: a tensor of any shape, or a state dict.
        b: the same structure and shapes.

    Raises:
        ValueError: if the keys or shapes differ.

    >>> distance({"w": torch.tensor([0.0, 3.0])}, {"w": torch.tensor([4.0, 0.0])})
    5.0
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape:
            raise ValueError(f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}")
        if not a.is_floating_point():
            return 0.0
        difference = a.detach().double() - b.detach().to(a.device).double()
        return float(difference.norm())
    same_keys(a, b)
    return math.hypot(*(distance(a[name], b[name]) for name in a))


@torch.no_grad()
def recorded_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Euclidean distance over tensors of one device, in their own precision, as it is recorded.

    :func:`distance` is slower and more exact.
    """
    if not a:
        norms: Sequence[Tensor] = [torch.zeros(())]
    elif a[0].device.type == "cpu":
        norms = _norms_apart(a, b)
    else:
        norms = torch._foreach_norm(torch._foreach_sub(list(a), list(b)))
    return float(torch.stack(list(norms)).norm())


def _norms_apart(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    """The norm of each difference, in one place in memory: new pages take longer than the sums."""
    room, found = torch.empty(max(x.numel() for x in a)), list[Tensor]()
    for x, y in zip(a, b, strict=True):
        plain = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
        if plain and x.dtype == y.dtype == room.dtype and x.stride() == y.stride():
            there = room[: x.numel()].as_strided(x.shape, x.stride())
            found.append(torch.linalg.vector_norm(torch.sub(x, y, out=there)))
        else:
            found.append(torch.linalg.vector_norm(x - y))
    return found


def is_statistic(name: str) -> bool:
    """Whether an entry of a state dict is a running statistic of a normalisation."""
    return name.endswith(("running_mean", "running_var"))


def trunk_distance(a: State, b: State, head: Sequence[str]) -> float:
    """Euclidean distance over the trunk's weights: neither the head nor running statistics.

    The head is trained anew by every method, the linear probe included, and statistics are in
    units of their own: over both, a distance says little about how far a network has moved.

    Args:
        a: state dict of a plain network.
        b: another of it.
        head: names of the head's parameters.

    >>> a = {"w": torch.tensor([3.0]), "running_var": torch.ones(1), "fc": torch.zeros(1)}
    >>> b = {"w": torch.tensor([0.0]), "running_var": torch.zeros(1), "fc": torch.ones(1)}
    >>> trunk_distance(a, b, ["fc"])
    3.0
    """
    names = [name for name in a if name not in head and not is_statistic(name)]
    return distance({name: a[name] for name in names}, {name: b[name] for name in names})


def same_keys(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Raise ValueError, naming the keys, unless both state dicts have the same ones."""
    if a.keys() != b.keys():
        raise ValueError(f"weights differ in {sorted(a.keys() ^ b.keys())[:5]}")


def snapshot(model: torch.nn.Module, device: torch.device | str | None = None) -> State:
    """A detached copy of the model's state dict, on ``device`` (default: where each tensor is)."""
    return {
        name: tensor.detach().to(device or tensor.device, copy=True)
        for name, tensor in model.state_dict().items()
    }


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in nested mappings and sequences, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from tensors_in(inner)


def bytes_in(value: object) -> int:
    """Bytes of the tensors in nested mappings and sequences."""
    return sum(x.numel() * x.element_size() for x in tensors_in(value))


def content(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU, without a copy."""
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)


def sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, types, shapes and bytes of a state dict, in name order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(content(tensor))
    return digest.hexdigest()
