"""Which entries, or which whole tensors, an optimiser's step may change.

[0] Chen et al., *MoFO: momentum-filtered optimizer for mitigating forgetting in LLM fine-tuning*,
    Algorithm 1.
[1] The authors' code, which keeps every entry tied with the threshold.
[2] Hui et al., *HFT: half fine-tuning for large language models*.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clbench.seeding import generator

#: Integers of the width of each float type: without the sign bit, they are ordered like the
#: floats' magnitudes.
_BITS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


def entry_count(numel: int, fraction: float) -> int:
    """How many of a tensor's entries are updated: the whole part of the share, at least one.

    The authors' code has no lower bound and stops with an error for small tensors [1].

    >>> entry_count(1000, 0.15), entry_count(5, 0.15)
    (150, 1)
    """
    return max(1, int(numel * fraction))


def top_mask(scores: Tensor, k: int) -> Tensor:
    """The ``k`` entries of largest magnitude: FLT_α of [0], for one tensor.

    Exact. Of tied entries the ones of lowest index are taken, in row-major order whatever the
    memory format. NaN counts as larger than infinity, so that it shows instead of being filtered.

    Args:
        scores: real floating-point tensor of any shape, device and memory format.
        k: entries to take, from 1 to the number of entries.

    Returns:
        bool, of the shape of ``scores``, with exactly ``k`` True.

    Raises:
        ValueError: if ``k`` is out of range.
        TypeError: if ``scores`` are not real floating-point numbers.

    >>> top_mask(torch.tensor([1.0, -3.0, 2.0, -2.0]), 2)
    tensor([False,  True,  True, False])
    """
    if not 1 <= k <= scores.numel():
        raise ValueError(f"k must be in 1…{scores.numel()}, the number of entries, got {k}")
    if scores.dtype not in _BITS:
        raise TypeError(f"scores must be real floating-point numbers, got {scores.dtype}")
    if k == scores.numel():
        return torch.ones_like(scores, dtype=torch.bool)
    return _top_mask_numpy(scores, k) if scores.device.type == "cpu" else _top_mask_torch(scores, k)


def _top_mask_torch(scores: Tensor, k: int) -> Tensor:
    # Nothing here waits for the device: whether entries are tied is not asked, just dealt with.
    bits = _BITS[scores.dtype]
    keys = scores.detach().reshape(-1).view(bits) & torch.iinfo(bits).max
    below = keys.numel() - k + 1
    if k < below:
        threshold = keys.topk(k, sorted=False).values.amin()
    else:
        threshold = keys.topk(below, largest=False, sorted=False).values.amax()
    above, tied = keys > threshold, keys == threshold
    wanted = k - above.sum()
    return (above | (tied & (tied.cumsum(0) <= wanted))).view(scores.shape)


def _top_mask_numpy(scores: Tensor, k: int) -> Tensor:
    # NumPy's vectorised selection on integers takes a tenth of the time of torch.topk. Entries
    # are looked at in the order of memory, which spares a copy for channels_last.
    bits = _BITS[scores.dtype]
    order = sorted(range(scores.dim()), key=scores.stride, reverse=True)
    stored = scores.detach().permute(order)
    keys = stored.reshape(-1).view(bits).numpy() & torch.iinfo(bits).max
    last = keys.size - k
    threshold = np.partition(keys, last)[last]
    mask = keys >= threshold
    surplus = int(np.count_nonzero(mask)) - k
    if surplus:
        tied = np.flatnonzero(keys == threshold)
        if order != sorted(order):
            index = torch.arange(keys.size).view(scores.shape).permute(order).reshape(-1).numpy()
            tied = tied[np.argsort(index[tied])]
        mask[tied[tied.size - surplus :]] = False
    back = sorted(range(scores.dim()), key=order.__getitem__)
    return torch.from_numpy(mask).view(stored.shape).permute(back)


def put_back(values: Tensor, before: Tensor, mask: Tensor) -> None:
    """Give the entries of ``values`` outside ``mask`` their earlier values again, in place.

    Args:
        values: tensor of one of the float types, of any shape.
        before: the earlier values; same shape, type and device.
        mask: bool, same shape; True where the new value stays.
    """
    if values.device.type != "cpu":
        torch.where(mask, values, before, out=values)
        return
    # Where the mask is scattered, torch.where on the CPU costs a mispredicted branch per entry.
    bits = _BITS[values.dtype]
    new, old = values.detach().view(bits).numpy(), before.view(bits).numpy()
    change = new ^ old
    change *= mask.numpy()
    np.bitwise_xor(old, change, out=new)


def layers_of(names: Sequence[str]) -> list[str]:
    """The layer that each parameter of a network belongs to, from the names of all.

    It is the innermost numbered module that has modules of its own: a residual or transformer
    block. Where there is none, it is the module that owns the parameter.

    Args:
        names: as in ``model.named_parameters()``.

    Returns:
        The layer of each, in order.

    >>> layers_of(["layer2.0.conv1.weight", "layer2.0.downsample.1.bias", "patch_embed.proj.bias"])
    ['layer2.0', 'layer2.0', 'patch_embed.proj']
    >>> layers_of(["stages.1.blocks.2.norm.weight", "stages.1.blocks.2.gamma"])
    ['stages.1.blocks.2', 'stages.1.blocks.2']
    """
    numbered = {name: _numbered_prefixes(name) for name in names}
    blocks = {p for name in names for p in numbered[name] if name.count(".") - p.count(".") > 1}
    return [
        next((p for p in numbered[name] if p in blocks), name.rpartition(".")[0]) for name in names
    ]


def _numbered_prefixes(name: str) -> list[str]:
    parts = name.split(".")
    ends = range(len(parts) - 1, 0, -1)
    return [".".join(parts[:end]) for end in ends if parts[end - 1].isdigit()]


def draw_blocks(
    names: Sequence[str], fraction: float, *keys: int, layers: Sequence[str] | None = None
) -> frozenset[str]:
    """A random share of the parameter blocks (whole tensors) of each layer [2].

    A layer of n blocks gets n·fraction of them; where this is not whole, it is rounded up or
    down at random, so that the share is right on average.

    Args:
        names: of the parameters; each is a block.
        fraction: share to draw, in (0, 1].
        keys: whole numbers that the draw depends on, and on nothing else.
        layers: the layer of each name; default: :func:`layers_of`.

    Returns:
        The names drawn.

    Raises:
        ValueError: if ``fraction`` is not in (0, 1].
    """
    check_fraction(fraction)
    members: dict[str, list[str]] = {}
    for name, layer in zip(names, layers or layers_of(names), strict=True):
        members.setdefault(layer, []).append(name)
    random = generator(*keys)
    drawn: list[str] = []
    for blocks in members.values():
        rounding = float(torch.rand((), generator=random, dtype=torch.float64))
        count = int(len(blocks) * fraction + rounding)
        drawn += [blocks[i] for i in torch.randperm(len(blocks), generator=random)[:count]]
    return frozenset(drawn)


def check_fraction(fraction: float) -> None:
    """Refuse shares outside (0, 1].

    Raises:
        ValueError: naming the value.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")
