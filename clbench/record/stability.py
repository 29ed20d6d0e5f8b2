"""Scores of how low a stream went: accuracies on earlier tasks while later ones were trained.

[0] De Lange et al., *Continual Evaluation for Lifelong Learning*, 2023 (min-ACC, WC-ACC).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

#: What was in training, and the accuracy on each task that was tested then.
Measurement = tuple[int, Mapping[int, float]]


def min_accuracy(points: Iterable[Measurement]) -> float | None:
    """Min-ACC: mean over earlier tasks of the lowest accuracy since they were learned [0].

    Args:
        points: in order; of each the task in training, and accuracies by task. The more often a
            task is tested while later ones are trained, the deeper a gap can be seen.

    Returns:
        The score; None for a single task, or where one was never tested afterwards.

    >>> min_accuracy([(0, {0: 0.9}), (1, {0: 0.2, 1: 0.5}), (1, {0: 0.6, 1: 0.8})])
    0.2
    """
    lowest, last = dict[int, float](), 0
    for last, accuracies in points:
        for task, accuracy in accuracies.items():
            if task < last:
                lowest[task] = min(accuracy, lowest.get(task, math.inf))
    return sum(lowest.values()) / last if lowest and len(lowest) == last else None


def worst_case_accuracy(points: Iterable[Measurement]) -> float | None:
    """WC-ACC: ``A(last task) / k + (1 - 1/k) * min-ACC`` at the end of ``k`` tasks [0].

    Args:
        points: as for :func:`min_accuracy`.

    Returns:
        The score; None where min-ACC is, or where the last task was not tested.

    >>> worst_case_accuracy([(0, {0: 0.9}), (1, {0: 0.2, 1: 0.5}), (1, {0: 0.6, 1: 0.8})])
    0.5
    """
    points = list(points)
    lowest = min_accuracy(points)
    if lowest is None:
        return None
    last, accuracies = points[-1]
    if last not in accuracies:
        return None
    return (accuracies[last] + last * lowest) / (last + 1)
