"""What is kept of what a network knew, by every measure: before, after each task, in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clbench.record.events import RetentionScores, TaskEvent

#: Retention before the first task of which a share can be kept.
LEAST = 1e-6
#: What the measure by the original head is called.
HEAD = "head"


def course(before: float, after: Sequence[float], independent: bool) -> dict[str, Any]:
    """``before`` and ``after_task``; ``change`` and ``kept``: after − before and after ÷ before.

    Args:
        before: the first task.
        after: every task.
        independent: whether each task has a network of its own, so that the mean counts, not the
            last.
    """
    end = (sum(after) / len(after) if independent else after[-1]) if after else None
    return {
        "before": before,
        "after_task": list(after),
        "change": None if end is None else end - before,
        "kept": None if end is None or before <= LEAST else end / before,
    }


def courses(
    before: Mapping[str, float], tasks: Sequence[TaskEvent], independent: bool
) -> dict[str, dict[str, Any]]:
    """The course of every measure by its name.

    Args:
        before: what the event ``pretrained`` has.
        tasks: the events of the tasks.
        independent: as for :func:`course`.
    """
    return {
        name: course(value, [event.retained[name] for event in tasks], independent)
        for name, value in before.items()
    }


def of_metrics(
    before: RetentionScores, after: Sequence[RetentionScores], independent: bool
) -> dict[str, dict[str, Any]]:
    """``metrics``: the course of those that were measured beside accuracy; empty if none were.

    There is no ``kept``: of a calibration error, a share says nothing.

    Args:
        before: the first task.
        after: every task.
        independent: as for :func:`course`.
    """
    found = {}
    for name, start in before.metrics.items():
        values = [scores.metrics.get(name) for scores in after]
        known = [value for value in values if value is not None]
        if start is not None and len(known) == len(values):
            found[name] = course(start, known, independent)
            del found[name]["kept"]
    return {"metrics": found} if found else {}
