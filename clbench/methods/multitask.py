"""Multitask training: all tasks at once, the upper bound of continual learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from clbench.data.batches import Split
from clbench.methods.base import Method, Needs
from clbench.streams import Task


class Multitask(Method):
    """Train on the data of all tasks together; the stream becomes one task.

    The accuracy matrix then has one row, the last: backward transfer is not defined.
    """

    summary: ClassVar[str] = "all tasks at once: the joint upper bound"
    needs: ClassVar[Needs] = Needs(past_data=True)
    joint: ClassVar[bool] = True

    def arrange(self, tasks: Sequence[Task]) -> Sequence[Task]:
        return [joint(tasks)]


def joint(tasks: Sequence[Task]) -> Task:
    """One task of all classes and all data; its row in the accuracy matrix is the last.

    Args:
        tasks: in stream order.
    """
    return Task(
        index=tasks[-1].index,
        name=f"all {len(tasks)} tasks",
        classes=range(tasks[0].classes.start, tasks[-1].classes.stop),
        train=Split.joined([task.train for task in tasks]),
        validation=Split.joined([task.validation for task in tasks]),
        test=tasks[-1].test,  # withheld
    )
