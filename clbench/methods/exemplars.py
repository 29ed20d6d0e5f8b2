"""Which samples a memory of past tasks keeps: pure functions that methods share.

[0] Vitter, *Random sampling with a reservoir*.
[1] Rebuffi et al., *iCaRL: incremental classifier and representation learning*, Algorithm 4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def herd(features_NF: Tensor, count: int) -> Tensor:
    """Samples whose running mean stays nearest to the mean of all [1, Algorithm 4].

    Args:
        features_NF: (N, F) features of one class; their length is normalised to one.
        count: how many to choose, at most N.

    Returns:
        int64 (count,): positions in the order of choice, so that any beginning of it is the
        choice for a smaller count.

    Raises:
        ValueError: if ``count`` is outside 0…N.
    """
    if not 0 <= count <= len(features_NF):
        raise ValueError(f"count must be in 0…{len(features_NF)}, got {count}")
    unit_NF = F.normalize(features_NF, dim=1)
    mean, total = unit_NF.mean(0), torch.zeros_like(unit_NF[0])
    chosen: list[int] = []
    left = torch.zeros(len(unit_NF), device=unit_NF.device)
    for number in range(1, count + 1):
        distances = (mean - (total + unit_NF) / number).norm(dim=1) + left
        best = int(distances.argmin())
        chosen.append(best)
        total = total + unit_NF[best]
        left[best] = torch.inf
    return torch.tensor(chosen, dtype=torch.int64)


def quotas(counts: Tensor, size: int) -> Tensor:
    """Divide ``size`` places evenly among classes that have ``counts`` samples.

    Args:
        counts: int64 (K,).
        size: places, at least 0. What a small class leaves goes to the others; what does not
            divide evenly goes to the classes that come first.

    Returns:
        int64 (K,), at most ``counts``, that sum to ``min(size, counts.sum())``.

    >>> quotas(torch.tensor([2, 9, 9]), 11)
    tensor([2, 5, 4])
    """
    given = torch.zeros_like(counts)
    left = min(size, int(counts.sum()))
    while left > 0:
        open_ = (given < counts).nonzero().flatten()
        each = max(1, left // len(open_))
        more = torch.minimum(counts[open_] - given[open_], torch.tensor(each))[:left]
        given[open_[: len(more)]] += more
        left -= int(more.sum())
    return given


def reservoir(size: int, seen: int, count: int, random: torch.Generator) -> Tensor:
    """Where samples of a stream go, so that each of all stays with the same probability [0].

    Args:
        size: places.
        seen: samples before these.
        count: B, samples that come.
        random: draws a number for each.

    Returns:
        int64 (B,): a place for each, in order; -1 for none. A later one takes an earlier's.
    """
    number = seen + torch.arange(count)
    drawn = (torch.rand(count, generator=random, dtype=torch.float64) * (number + 1)).long()
    places = torch.where(number < size, number, drawn)
    return torch.where(places < size, places, -1)


def places(stored: Tensor, labels: Tensor, size: int) -> dict[int, int]:
    """How many samples to keep of each class of a task: no later one gives a class more.

    Args:
        stored: int64 (M,), labels of what is kept.
        labels: int64 (N,), of the task.
        size: samples of all tasks together.
    """
    classes, counts = torch.unique(torch.cat([stored, labels]), return_counts=True)
    given = dict(zip(classes.tolist(), quotas(counts, size).tolist(), strict=True))
    return {label: given[label] for label in torch.unique(labels).tolist()}


def herd_ranks(features_NF: Tensor, labels: Tensor, wanted: dict[int, int]) -> Tensor:
    """Each sample's place, float64 (N,), in the herd of its class; infinite beyond ``wanted``."""
    ranks = torch.full((len(labels),), torch.inf, dtype=torch.float64)
    for label, count in wanted.items():
        rows = (labels == label).nonzero().flatten()
        # Where tasks share labels, those of earlier ones count among the wanted.
        order = herd(features_NF[rows.to(features_NF.device)], min(count, len(rows)))
        ranks[rows[order]] = torch.arange(len(order), dtype=torch.float64)
    return ranks


def exemplar_means(features_NF: Tensor, labels_N: Tensor, classes: int) -> Tensor:
    """Each class's mean of features at unit length, at unit length (C, F); 0 without any [1]."""
    unit_NF = F.normalize(features_NF, dim=1)
    sums_CF = unit_NF.new_zeros(classes, unit_NF.shape[1]).index_add_(0, labels_N, unit_NF)
    return F.normalize(sums_CF, dim=1)


def select(labels: Tensor, ranks: Tensor, size: int, by_class: bool) -> Tensor:
    """The samples of lowest rank, among all or evenly among the classes.

    Args:
        labels: int64 (N,).
        ranks: (N,).
        size: how many, at most.
        by_class: choose :func:`quotas` of each class.

    Returns:
        int64 (min(N, size),): positions, ascending.
    """
    if not by_class:
        return ranks.argsort(stable=True)[:size].sort().values
    classes, counts = torch.unique(labels, return_counts=True)
    places = zip(classes.tolist(), quotas(counts, size).tolist(), strict=True)
    return lowest(labels, ranks, dict(places))


def lowest(labels: Tensor, ranks: Tensor, wanted: dict[int, int]) -> Tensor:
    """Positions, ascending, of the ``wanted`` number of samples of lowest rank of each class."""
    parts = []
    for label, count in wanted.items():
        rows = (labels == label).nonzero().flatten()
        parts.append(rows[ranks[rows].argsort(stable=True)[:count]])
    return torch.cat(parts).sort().values
