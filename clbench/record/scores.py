r"""Scores of a stream of tasks, from its accuracy matrix.

``R[t, i]`` is the test accuracy (a fraction in 0…1) on task ``i`` after training on task ``t``;
``R`` is (T, T), NaN where nothing was measured; a score that needs such an entry is NaN. Only
forward transfer and MTIL's scores read entries above the diagonal.

docs/scores.md has worked matrices, and which programs and papers mean something else by a name.

[0] Lopez-Paz & Ranzato, *Gradient Episodic Memory for Continual Learning*, 2017 (OP, which they
    call ACC, BWT, FWT).
[1] Chaudhry et al., *Riemannian Walk for Incremental Learning*, 2018 (forgetting, intransigence).
[2] Rebuffi et al., *iCaRL*, 2017 (average incremental accuracy).
[3] Riemer et al., *Learning to Learn without Forgetting by Maximizing Transfer and Minimizing
    Interference*, 2019 (learning accuracy).
[4] Zheng et al., *Preventing Zero-Shot Transfer Degradation in Continual Learning of
    Vision-Language Models*, 2023 (MTIL's Transfer, Avg and Last; the last is OP).
[5] Roth et al., *A Practitioner's Guide to Continual Multimodal Pretraining*, 2024 (the geometric
    mean of what was learned and what was kept).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: What follows from a matrix, with the names that people read. ``_micro``: every test image counts
#: alike, in the place of every task.
LABELS = {
    "overall_performance": "overall performance (OP)",
    "overall_performance_micro": "OP over images (micro)",
    "average_incremental_accuracy": "average incremental accuracy (Ā)",
    "average_incremental_accuracy_micro": "Ā over images (micro)",
    "backward_transfer": "backward transfer (BWT)",
    "forgetting": "forgetting",
    "learning_accuracy": "learning accuracy",
    "forward_transfer": "forward transfer (FWT)",
    "mtil_transfer": "MTIL's Transfer",
    "mtil_average": "MTIL's Avg",
    "intransigence": "intransigence",
}
#: Those that have a sign: differences of accuracies where more is better.
SIGNED = ("backward_transfer", "forward_transfer")


def all_scores(
    R: ArrayLike,
    images: ArrayLike | None = None,
    baseline: ArrayLike | None = None,
    reference: ArrayLike | None = None,
) -> dict[str, float | None]:
    """Every score in :data:`LABELS`; None where something that it needs is not known.

    Args:
        R: (T, T) accuracy matrix.
        images: (T,) test images of each task, for the scores over images.
        baseline: (T,) or a number, see :func:`forward_transfer`.
        reference: (T,), see :func:`intransigence`.

    Raises:
        ValueError: if ``R`` is not square, or an argument does not fit it.

    >>> found = all_scores([[0.9, np.nan], [0.5, 0.7]])
    >>> found["average_incremental_accuracy"], found["mtil_transfer"]
    (0.75, None)
    """
    found = {
        "overall_performance": overall_performance(R),
        "overall_performance_micro": None if images is None else overall_performance(R, images),
        "average_incremental_accuracy": average_incremental_accuracy(R),
        "average_incremental_accuracy_micro": None
        if images is None
        else average_incremental_accuracy(R, images),
        "backward_transfer": backward_transfer(R),
        "forgetting": forgetting(R),
        "learning_accuracy": learning_accuracy(R),
        "forward_transfer": None if baseline is None else forward_transfer(R, baseline),
        "mtil_transfer": mtil_transfer(R),
        "mtil_average": mtil_average(R),
        "intransigence": None if reference is None else intransigence(R, reference),
    }
    return {k: None if value is None or math.isnan(value) else value for k, value in found.items()}


def overall_performance(R: ArrayLike, images: ArrayLike | None = None) -> float:
    """OP, or last accuracy: mean over all tasks after the last one, ``mean_i R[T, i]`` [0].

    Args:
        R: (T, T) accuracy matrix.
        images: (T,) test images of each task; with them, the share of all images (micro).

    Raises:
        ValueError: if ``R`` is not square, or ``images`` does not fit it.

    >>> R = [[0.9, 0.0], [0.5, 0.7]]
    >>> round(overall_performance(R), 6), round(overall_performance(R, images=[300, 100]), 6)
    (0.6, 0.55)
    """
    matrix = _square(R)
    return float(matrix[-1].mean()) if images is None else _over(matrix[-1], _fit(images, matrix))


def average_incremental_accuracy(R: ArrayLike, images: ArrayLike | None = None) -> float:
    """Ā: mean over ``t`` of the accuracy on the tasks learned so far, ``mean_{i<=t} R[t, i]`` [2].

    Args:
        R: (T, T) accuracy matrix.
        images: (T,) test images of each task; with them, the accuracy after each task is the share
            of all images of the tasks so far (micro), as in PyCIL and PILOT.

    Raises:
        ValueError: if ``R`` is not square, or ``images`` does not fit it.

    >>> R = [[0.9, 0.0], [0.5, 0.7]]
    >>> average_incremental_accuracy(R), round(average_incremental_accuracy(R, [300, 100]), 6)
    (0.75, 0.725)
    """
    matrix = _square(R)
    if images is None:
        return float(np.mean([matrix[t, : t + 1].mean() for t in range(len(matrix))]))
    counts = _fit(images, matrix)
    after = [_over(matrix[t, : t + 1], counts[: t + 1]) for t in range(len(matrix))]
    return float(np.mean(after))


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
    """Mean accuracy on each task right after it was learned, ``mean_i R[i, i]`` [3].

    Args:
        R: (T, T) accuracy matrix.

    Raises:
        ValueError: if ``R`` is not square.

    >>> round(learning_accuracy([[0.9, 0.0], [0.5, 0.7]]), 6)
    0.8
    """
    return float(np.diag(_square(R)).mean())


def forward_transfer(R: ArrayLike, baseline: ArrayLike) -> float | None:
    """FWT: ``mean_{i>1} (R[i-1, i] - b_i)`` [0]; positive where earlier tasks helped.

    Args:
        R: (T, T) accuracy matrix with the entries right above the diagonal.
        baseline: (T,) or a number: ``b``, the accuracy that there is without the stream. In [0] it
            is that of the network before the first task; chance is another choice, and 0 what
            Continuum takes. Say which.

    Returns:
        The score, or None for a single task.

    Raises:
        ValueError: if ``R`` is not square, or ``baseline`` does not fit it.

    >>> round(forward_transfer([[0.9, 0.6], [0.5, 0.7]], baseline=0.5), 6)
    0.1
    """
    matrix = _square(R)
    before = _fit(np.full(len(matrix), baseline) if np.ndim(baseline) == 0 else baseline, matrix)
    if len(matrix) == 1:
        return None
    return float((np.diag(matrix, 1) - before[1:]).mean())


def mtil_transfer(R: ArrayLike) -> float | None:
    """MTIL's Transfer: mean over tasks of their mean accuracy before they are learned [4].

    ``mean_{i>1} mean_{t<i} R[t, i]``: every task counts alike, however often it was tested before.

    Args:
        R: (T, T) accuracy matrix, whole above the diagonal.

    Returns:
        The score, or None for a single task.

    Raises:
        ValueError: if ``R`` is not square.

    >>> round(mtil_transfer([[0.9, 0.6, 0.1], [0.5, 0.7, 0.3], [0.4, 0.6, 0.8]]), 6)
    0.4
    """
    matrix = _square(R)
    if len(matrix) == 1:
        return None
    return float(np.mean([matrix[:i, i].mean() for i in range(1, len(matrix))]))


def mtil_average(R: ArrayLike) -> float:
    """MTIL's Avg: mean accuracy on all tasks after every task, the mean of the whole matrix [4].

    Args:
        R: (T, T) accuracy matrix without gaps.

    Raises:
        ValueError: if ``R`` is not square.

    >>> mtil_average([[0.9, 0.6], [0.5, 0.8]])
    0.7
    """
    return float(_square(R).mean())


def intransigence(R: ArrayLike, reference: ArrayLike) -> float:
    """What is lost in learning: ``mean_i (reference_i - R[i, i])`` [1]; positive: too stiff.

    Args:
        R: (T, T) accuracy matrix.
        reference: (T,) accuracies of networks that had nothing to keep: trained on each task alone,
            or, as in [1], on all tasks up to it at once.

    Raises:
        ValueError: if ``R`` is not square, or ``reference`` does not fit it.

    >>> round(intransigence([[0.9, 0.0], [0.5, 0.7]], reference=[0.9, 0.8]), 6)
    0.05
    """
    matrix = _square(R)
    return float((_fit(reference, matrix) - np.diag(matrix)).mean())


def geometric_mean(learned: float, kept: float) -> float:
    """Geometric mean of what was learned (OP) and kept (retention after ÷ before) [5].

    >>> round(geometric_mean(0.9, 0.4), 6)
    0.6
    """
    return math.sqrt(learned * kept)


def _square(R: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(R, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"R must be a (T, T) matrix with T >= 1, got shape {matrix.shape}")
    return matrix


def _fit(values: ArrayLike, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """One number for each task."""
    found = np.asarray(values, dtype=np.float64)
    if found.shape != matrix.shape[:1]:
        raise ValueError(f"must be {len(matrix)} numbers, one a task, got shape {found.shape}")
    return found


def _over(accuracies: NDArray[np.float64], images: NDArray[np.float64]) -> float:
    return float((accuracies * images).sum() / images.sum())
