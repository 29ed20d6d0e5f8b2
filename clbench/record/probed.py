"""What features tell of each task, by classifiers made anew after every task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.record import scores
from clbench.record.events import TaskEvent


def probe_matrix(tasks: Sequence[TaskEvent], count: int, name: str) -> NDArray[np.float64]:
    """P (T, T): accuracy on task i after task t of a classifier made then; NaN if there was none.

    Args:
        tasks: events of a record.
        count: tasks of the stream, T.
        name: of the measure.
    """
    found = np.full((count, count), np.nan)
    for event in tasks:
        for task, value in zip(event.evaluated, event.representation.get(name, ()), strict=False):
            found[event.task, task] = value
    return found


def probe_scores(tasks: Sequence[TaskEvent], count: int) -> dict[str, dict[str, Any]]:
    """Of each measure: ``matrix``; ``learned`` and ``final``, means over tasks right after each was
    learned and in the end; ``change``, of earlier tasks, from the one to the other.

    A number is None where a task is missing, and ``change`` where there is one task.

    Args:
        tasks, count: as for :func:`probe_matrix`.
    """
    found = {}
    for name in dict.fromkeys(name for event in tasks for name in event.representation):
        P = probe_matrix(tasks, count, name)
        told = {
            "learned": scores.learning_accuracy(P),
            "final": scores.overall_performance(P),
            "change": scores.backward_transfer(P),
        }
        found[name] = {
            **{k: None if v is None or np.isnan(v) else v for k, v in told.items()},
            "matrix": [[None if np.isnan(x) else x for x in row] for row in P.tolist()],
        }
    return found
