"""The optimiser steps of every task, counted before the first."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.data.batches import Batches, Examples, Mixed
from clbench.learner.trainer import count_steps
from clbench.recipe.recipe import Recipe
from clbench.streams import Task


def steps_of_tasks(recipe: Recipe, stages: Sequence[Task], least: int = 1) -> list[int]:
    """Optimiser steps of each task, as its own settings and the size of its data have it.

    Args:
        recipe: the run's.
        stages: what it trains on, in order.
        least: images that the network needs at a time.
    """
    counts = []
    for number, task in enumerate(stages):
        rules = recipe.for_task(task.name)
        shares = [method.mixes for method in rules.methods.values()] if number else []
        mixed = tuple(Mixed(task.train, share) for share in shares if share)
        batches = Batches(Examples(task.train, mixed), rules.batch_size, (0,), least=least)
        counts.append(count_steps(rules, len(batches)))
    return counts
