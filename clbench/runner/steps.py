"""The tasks of a run before the first: whether they can be trained on, and in how many steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clbench.data.batches import Batches, Examples, Mixed
from clbench.errors import ClbenchError
from clbench.learner.trainer import count_steps
from clbench.recipe.recipe import Recipe
from clbench.runner.preflight import named
from clbench.streams import Task


def batches_of_tasks(
    recipe: Recipe, stages: Sequence[Task], least: int = 1
) -> Iterator[tuple[Recipe, Batches]]:
    """The settings of each task, and batches of the sizes that its own have.

    Args:
        recipe: the run's.
        stages: what it trains on, in order.
        least: images that the network needs at a time.
    """
    for number, task in enumerate(stages):
        rules = recipe.for_task(task.name)
        shares = [method.mixes for method in rules.methods.values()] if number else []
        mixed = tuple(Mixed(task.train, share) for share in shares if share)
        examples = Examples(task.train, mixed)
        yield rules, Batches(examples, rules.batch_size, (0,), least=least)


def trains(recipe: Recipe, number: int) -> bool:
    """Whether anything is trained of the task of a number, from 1, as far as methods tell."""
    last = (method.last_trained for method in recipe.methods.values())
    return all(number <= one for one in last if one is not None)


def steps_of_tasks(recipe: Recipe, stages: Sequence[Task], least: int = 1) -> list[int]:
    """Optimiser steps of each task; the arguments are those of :func:`batches_of_tasks`."""
    tasks = batches_of_tasks(recipe, stages, least)
    return [
        count_steps(rules, len(batches)) if trains(rules, number) else 0
        for number, (rules, batches) in enumerate(tasks, 1)
    ]


def check_tasks(recipe: Recipe, stages: Sequence[Task], least: int) -> None:
    """Refuse tasks that cannot be trained on, before the first is.

    Args:
        recipe: the run's.
        stages: what it trains on.
        least: images that the network needs at a time.

    Raises:
        ClbenchError: naming the task.
    """
    for task in stages:
        rules = recipe.for_task(task.name)
        size = rules.batch_size
        if rules.early_stopping.every and not len(task.validation):
            raise ClbenchError(
                f"task {task.name} has no validation images, which early_stopping.every = "
                f"{rules.early_stopping.every} looks at: raise stream.validation = "
                f"{recipe.stream.validation:g}, the share held out, or leave early_stopping out"
            )
        if size < least or len(task.train) < least:
            raise ClbenchError(
                f"task {task.name}: batch_size = {size} and {len(task.train)} training images, but "
                f"{named(recipe)} has BatchNorm, which needs at least {least} images of "
                f"{recipe.images.size} pixels at a time"
            )
