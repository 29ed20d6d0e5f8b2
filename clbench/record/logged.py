"""Where the tasks end in what a logger has: a run that goes on keeps what is of finished ones.

Steps do not tell: of a method that makes none, all tasks stand at one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

#: What is logged last of every task: how many are finished with it, from 1.
FINISHED = "stream/finished_tasks"


def until_task(done: int, logged: Iterable[tuple[T, bool]]) -> tuple[list[T], bool]:
    """What was logged up to the end of a task.

    Args:
        done: finished tasks.
        logged: in order, each with whether its :data:`FINISHED` is ``done``.

    Returns:
        What is kept, and whether that end was found; else all is kept. Without a finished task
        nothing is, as the run begins anew.
    """
    kept: list[T] = []
    if not done:
        return kept, True
    for one, ends in logged:
        kept.append(one)
        if ends:
            return kept, True
    return kept, False


def no_end(what: str, done: int, reached: int) -> str:
    """A line that says that the end of the last finished task was not found.

    Args:
        what: the logger's file, and where.
        done: finished tasks.
        reached: the last step that it has.
    """
    return (
        f"{what} does not tell where task {done} ends (it is new, damaged or of an older version): "
        f"all that it has is kept, up to step {reached}, also of a task that was cut off; "
        "record.jsonl has all that was measured"
    )
