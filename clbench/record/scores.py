r"""Scores of a stream of tasks, from its accuracy matrix.

``R[t, i]`` is the test accuracy (a fraction in 0…1) on task ``i`` after training on task ``t``;
``R`` is (T, T). Entries above the diagonal are never read and may hold anything, NaN included.

[0] Lopez-Paz & Ranzato, *Gradient Episodic Memory for Continual Learning*, 2017 (OP and BWT).
[1] Chaudhry et al., *Riemannian Walk for Incremental Learning*, 2018 (forgetting).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _square(R: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(R, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"R must be a (T, T) matrix with T >= 1, got shape {matrix.shape}")
    return matrix


def overall_performance(R: ArrayLike) -> float:
    """OP: mean accuracy over all tasks after the last one, ``mean_i R[T, i]`` [0].

    Args:
        R: (T, T) accuracy matrix.

    Raises:
        ValueError: if ``R`` is not square.

    >>> round(overall_performance([[0.9, 0.0], [0.5, 0.7]]), 6)
    0.6
    """
    return float(_square(R)[-1].mean())


def backward_transfer(R: ArrayLike) -> float | None:
    """BWT: ``mean_{i<T} (R[T, i] - R[i, i])`` [0]; negative when the model forgot.

    Args:
        R: (T, T) accuracy matrix.

    Returns:
        The score, or None for a single task, where there is nothing to transfer back to.

    Raises:
        ValueError: if ``R`` is not square.

    >>> round(backward_transfer([[0.9, 0.0], [0.5, 0.7]]), 6)
    -0.4
    """
    matrix = _square(R)
    if len(matrix) == 1:
        return None
    return float((matrix[-1, :-1] - np.diag(matrix)[:-1]).mean())


def forgetting(R: ArrayLike) -> float | None:
    """Best accuracy before the end minus accuracy at the end, mean over all tasks but the last [1].

    Args:
        R: (T, T) accuracy matrix.

    Returns:
        The score (positive when the model forgot), or None for a single task.

    Raises:
        ValueError: if ``R`` is not square.

    >>> round(forgetting([[0.9, 0.0], [0.5, 0.7]]), 6)
    0.4
    """
    matrix = _square(R)
    last = len(matrix) - 1
    if last == 0:
        return None
    return float(np.mean([matrix[i:last, i].max() - matrix[last, i] for i in range(last)]))


def learning_accuracy(R: ArrayLike) -> float:
    """Mean accuracy on each task right after it was learned, ``mean_i R[i, i]``.

    Args:
        R: (T, T) accuracy matrix.

    Raises:
        ValueError: if ``R`` is not square.

    >>> round(learning_accuracy([[0.9, 0.0], [0.5, 0.7]]), 6)
    0.8
    """
    return float(np.diag(_square(R)).mean())
