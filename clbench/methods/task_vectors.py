"""Task vectors, what a task changed of the pretrained weights: trimmed, summed, and merged.

[0] Ilharco et al., *Editing models with task arithmetic*, section 2.
[1] Yadav et al., *TIES-Merging: resolving interference when merging models*, Algorithm 1.
[2] Marczak et al., *MagMax: leveraging model merging for seamless continual learning*, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clbench.weights import State, Vector, is_statistic, same_keys

Trim = Literal["tensor", "model"]
#: λ, or 1/number of models.
Scale = float | Literal["mean"]
#: What is kept of all task vectors so far, for one tensor.
Total = tuple[Tensor, ...]


class Rule(NamedTuple):
    """One row of the family: how task vectors of one tensor are taken up and read out."""

    add: Callable[[Total, Tensor], Total]
    read: Callable[[Total], Tensor]


def _add_sum(total: Total, vector: Tensor) -> Total:
    return (total[0] + vector,) if total else (vector,)


def _add_signed(total: Total, vector: Tensor) -> Total:
    # Sums and counts by sign are all that electing signs and the disjoint mean need [1]: memory
    # does not grow with the number of tasks.
    own = (
        vector.clamp(min=0),
        vector.clamp(max=0),
        (vector > 0).to(torch.int16),
        (vector < 0).to(torch.int16),
    )
    return tuple(a + b for a, b in zip(total, own, strict=True)) if total else own


def _add_largest(total: Total, vector: Tensor) -> Total:
    return (torch.where(vector.abs() >= total[0].abs(), vector, total[0]),) if total else (vector,)


def _read_elected(total: Total) -> Tensor:
    positive, negative, above, below = total
    elected = positive + negative
    mean_above, mean_below = positive / above.clamp(min=1), negative / below.clamp(min=1)
    return torch.where(elected > 0, mean_above, torch.where(elected < 0, mean_below, elected))


RULES = {
    "task_arithmetic": Rule(_add_sum, lambda total: total[0]),
    "ties": Rule(_add_signed, _read_elected),
    "magmax": Rule(_add_largest, lambda total: total[0]),
}


def task_arithmetic(base: Vector, models: Sequence[Vector], scale: Scale) -> Vector:
    """The weights base + λ·Σ (model − base) [0].

    Args:
        base: what the models were trained from; a tensor of any shape, or a state dict.
        models: at least one, of the same structure and shapes.
        scale: λ, the factor of the summed task vectors; ``mean`` is 1/number of models, which
            gives the mean of the models: their weights sum to 1.

    Returns:
        New weights; exactly the model for one model at scale 1 (or ``mean``). Running statistics
        of a state dict (…running_mean, …running_var) are the plain mean over the models, as a sum
        could make a variance negative; entries that are not floating point are the last model's.

    Raises:
        ValueError: if there are no models, or names or shapes differ.

    >>> task_arithmetic(torch.zeros(2), [torch.tensor([1.0, 2.0]), torch.tensor([3.0, -4.0])], 0.5)
    tensor([ 2., -1.])
    """
    return _merge(base, models, scale, Store("task_arithmetic"))


def ties(
    base: Vector,
    models: Sequence[Vector],
    density: float,
    scale: float,
    trim: Trim = "tensor",
) -> Vector:
    """Trim, elect signs, merge: base + λ·(mean of the trimmed task vectors that agree) [1].

    Each task vector keeps its ``int(density·n)`` entries of largest magnitude, at least one. For
    each entry, the sign of the sum over the models is elected, and the mean is over the models
    that have this sign. Where the sum is zero, no sign is elected and the entry stays the base's.

    Args:
        base: what the models were trained from; a tensor of any shape, or a state dict.
        models: at least one, of the same structure and shapes.
        density: share of entries that trimming keeps, in (0, 1].
        scale: λ, the factor of the merged task vector.
        trim: per ``tensor``, or over the whole ``model``, as in the paper.

    Returns:
        New weights; exactly the model for one model at density 1 and scale 1. Running statistics
        and entries that are not floating point are as in :func:`task_arithmetic`.

    Raises:
        ValueError: if there are no models, names or shapes differ, or density is out of range.

    >>> base, models = torch.zeros(2), [torch.tensor([1.0, 2.0]), torch.tensor([3.0, -4.0])]
    >>> ties(base, models, density=1.0, scale=1.0)
    tensor([ 2., -4.])
    """
    return _merge(base, models, scale, Store("ties", density, trim))


def magmax(base: Vector, models: Sequence[Vector], scale: float) -> Vector:
    """The weights base + λ·τ, τ_j the largest of the models' changes, the later one of equals [2].

    Args:
        base: what the models started from, long ago; a tensor of any shape, or a state dict.
        models: at least one, of the same structure and shapes, in order.
        scale: λ.

    Returns:
        New weights; exactly the model for one model at scale 1. Running statistics and entries
        that are not floating point are as in :func:`task_arithmetic`.

    Raises:
        ValueError: if there are no models, or names or shapes differ.

    >>> magmax(torch.zeros(2), [torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 1.0])], 1.0)
    tensor([-1.,  2.])
    """
    return _merge(base, models, scale, Store("magmax"))


def _merge(base: Vector, models: Sequence[Vector], scale: Scale, store: Store) -> Vector:
    if not models:
        raise ValueError("there are no models to merge")
    first = _as_state(base)
    for model in models:
        store.add(first, _as_state(model))
    whole = len(models) == 1 and store.factor(scale) == 1 and store.density == 1
    merged = dict(_as_state(models[0])) if whole else store.merged(first, scale)
    copies = {name: tensor.clone() if whole else tensor for name, tensor in merged.items()}
    return copies[""] if isinstance(base, Tensor) else copies


def _as_state(weights: Tensor | Any) -> State:
    return {"": weights} if isinstance(weights, Tensor) else dict(weights)


class Store:
    """Takes up one model after the other and gives their merge at any time.

    Args:
        rule: a row of :data:`RULES`.
        density: share of entries that trimming keeps, in (0, 1].
        trim: per ``tensor`` or over the whole ``model``.

    Raises:
        ValueError: if density or trim is out of range.
    """

    def __init__(self, rule: str, density: float = 1.0, trim: Trim = "tensor") -> None:
        if not 0 < density <= 1:
            raise ValueError(f"density must be in (0, 1], got {density}")
        if trim not in ("tensor", "model"):
            raise ValueError(f"trim must be 'tensor' or 'model', got {trim!r}")
        self.rule, self.density, self.trim = RULES[rule], density, trim
        self.count = 0
        self.totals: dict[str, Total] = {}
        self.numbers: list[float] = []  # with which a rule goes on

    def add(self, base: State, model: State) -> None:
        """Take up the task vector model − base of one more model.

        Raises:
            ValueError: if names or shapes differ.
        """
        same_keys(base, model)
        for name, tensor in base.items():
            if tensor.shape != model[name].shape:
                raise ValueError(
                    f"shapes of {name!r} differ: {tuple(tensor.shape)} and "
                    f"{tuple(model[name].shape)}"
                )
        vectors = {n: model[n] - x for n, x in base.items() if x.is_floating_point()}
        weights = {n: x for n, x in vectors.items() if not is_statistic(n)}
        if self.density < 1:
            vectors |= trimmed(weights, self.density, self.trim)
        for name in model:
            total = self.totals.get(name, ())
            if name not in vectors:
                self.totals[name] = (model[name].clone(),)
            elif name in weights:
                self.totals[name] = self.rule.add(total, vectors[name])
            else:
                self.totals[name] = _add_sum(total, vectors[name])
        self.count += 1

    def factor(self, scale: Scale) -> float:
        """λ for the models taken up so far."""
        return 1 / self.count if scale == "mean" else scale

    def merged(self, base: State, scale: Scale) -> State:
        """New weights: the base with the merged task vectors, times ``scale``."""
        state, factor = {}, self.factor(scale)
        for name, total in self.totals.items():
            if not base[name].is_floating_point():
                state[name] = total[0].clone()
            elif is_statistic(name):
                state[name] = base[name] + total[0] / self.count
            else:
                state[name] = base[name] + factor * self.rule.read(total)
        return state


def trimmed(vectors: State, density: float, trim: Trim) -> State:
    """Task vectors with all but the entries of largest magnitude set to zero [1].

    Args:
        vectors: floating-point tensors by name.
        density: share of entries to keep, in (0, 1]: ``int(density·n)``, at least one; of equal
            magnitudes, those that come first.
        trim: n counts each ``tensor``, or the whole ``model``.
    """
    if trim == "tensor":
        return {
            name: x * largest(x.abs().flatten(), density).view_as(x) for name, x in vectors.items()
        }
    masks = largest(torch.cat([x.abs().flatten() for x in vectors.values()]), density)
    parts = torch.split(masks, [x.numel() for x in vectors.values()])
    return {
        name: x * part.view_as(x) for (name, x), part in zip(vectors.items(), parts, strict=True)
    }


def largest(magnitudes_N: Tensor, density: float) -> Tensor:
    """Mask (N,) of the share ``density`` of largest entries, one at least; of equals, the first."""
    keep = max(1, int(density * len(magnitudes_N)))
    if keep >= len(magnitudes_N):
        return torch.ones_like(magnitudes_N, dtype=torch.bool)
    place = len(magnitudes_N) - keep
    exact = magnitudes_N.dtype in (torch.float32, torch.float64)  # NumPy has no bfloat16
    values_N = (magnitudes_N if exact else magnitudes_N.float()).cpu().numpy()
    threshold = float(np.partition(values_N, place)[place])
    mask = magnitudes_N > threshold
    tied = (magnitudes_N == threshold).nonzero().flatten()
    mask[tied[: keep - int(mask.sum())]] = True
    return mask
