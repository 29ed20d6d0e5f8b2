"""Random numbers that depend on named keys only, never on what ran before."""

from __future__ import annotations

import random

import numpy as np
import torch


def derive(*keys: int) -> int:
    """A 63-bit seed from whole numbers, as in ``derive(seed, task, epoch)``.

    >>> derive(0, 1) == derive(0, 1), derive(0, 1) == derive(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(*keys: int) -> torch.Generator:
    """A CPU generator seeded by :func:`derive`."""
    return torch.Generator().manual_seed(derive(*keys))


def seed_everything(*keys: int) -> None:
    """Seed Python, NumPy and torch (all devices) from the keys."""
    seed = derive(*keys)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (for libraries that still use it)
    torch.manual_seed(seed)
