"""Random numbers that depend on named keys only, never on what ran before."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor


def derive(*keys: int) -> int:
    """A 63-bit seed from whole numbers, as in ``derive(seed, task, epoch)``.

    >>> derive(0, 1) == derive(0, 1), derive(0, 1) == derive(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(*keys: int) -> torch.Generator:
    """A CPU generator seeded by :func:`derive`."""
    return torch.Generator().manual_seed(derive(*keys))


def more_draws(draws: Tensor, count: int, first: int = 0) -> Tensor:
    """Further uniform numbers for each sample, by a hash (SplitMix64) of those that it has.

    Args:
        draws: float32 uniform numbers in [0, 1), (B, D).
        count: how many more.
        first: how many to leave out, so that several uses get others.

    Returns:
        float32 in [0, 1), (B, count), the same on every device.
    """
    state = torch.zeros(len(draws), dtype=torch.int64, device=draws.device)
    for column in (draws * 2**24).long().unbind(1):
        state = _mixed(state * 31 + column)
    counts = torch.arange(first + 1, first + count + 1, device=draws.device)
    words = _mixed(state[:, None] + counts * -7046029254386353131)  # the golden ratio, 64 bits
    return ((words >> 40) & (2**24 - 1)).float() / 2**24


def _mixed(words: Tensor) -> Tensor:
    """SplitMix64's finaliser; int64 wraps around, and shifts are to be of unsigned numbers."""
    words = (words ^ ((words >> 30) & (2**34 - 1))) * -4658895280553007687
    words = (words ^ ((words >> 27) & (2**37 - 1))) * -7723592293110705685
    return words ^ ((words >> 31) & (2**33 - 1))


def seed_everything(*keys: int) -> None:
    """Seed Python, NumPy and torch (all devices) from the keys."""
    seed = derive(*keys)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (for libraries that still use it)
    torch.manual_seed(seed)
