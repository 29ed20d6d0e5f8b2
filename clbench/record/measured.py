"""Scores of the metrics that a run measured beside accuracy, from the events of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.record.events import Measured, Scenario, TaskEvent


def matrix(
    tasks: Sequence[TaskEvent], count: int, name: str, scenario: Scenario
) -> NDArray[np.float64]:
    """M (T, T): the metric ``name`` on task i after task t; NaN where nothing was measured.

    Args:
        tasks: events of a record.
        count: tasks of the stream, T.
        name: of the metric.
        scenario: which classes could be answered.
    """
    found = np.full((count, count), np.nan)
    for event in tasks:
        values = event.metrics.get(name, {}).get(scenario, ())
        # What is no number in a record is null.
        for task, value in zip(event.evaluated, values, strict=False):
            found[event.task, task] = np.nan if value is None else value
    return found


def summary(
    tasks: Sequence[TaskEvent], count: int, independent: bool, scenarios: Iterable[Scenario]
) -> dict[str, Any]:
    """Of each metric and scenario, ``matrix`` and ``final``: the mean over all tasks in the end.

    ``final`` is None where a task is missing. Independent tasks have their own networks' numbers.

    Args:
        tasks, count: as for :func:`matrix`.
        independent: whether every task starts from the pretrained weights.
        scenarios: which.
    """
    names = dict.fromkeys(name for event in tasks for name in event.metrics)
    found: dict[str, Any] = {}
    for name in names:
        found[name] = {}
        for scenario in scenarios:
            values = matrix(tasks, count, name, scenario)
            last = np.diag(values) if independent else values[-1]
            found[name][scenario] = {
                "final": None if np.isnan(last).any() else float(last.mean()),
                "matrix": [[None if np.isnan(x) else x for x in row] for row in values.tolist()],
            }
    return found


def points(point: Measured, number: int) -> dict[str, Any]:
    """The metrics of one task at a point of a curve, by the names of columns."""
    return {
        f"{name}_{scenario}": values[number]
        for name, found in point.metrics.items()
        for scenario, values in found.items()
    }
