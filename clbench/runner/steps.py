"""The tasks of a run before the first: whether they can be trained on, and in how many steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from clbench.data.batches import Batches, Examples, Mixed, Split
from clbench.errors import ClbenchError
from clbench.learner.trainer import accumulated, count_steps
from clbench.methods.base import Method, overriding
from clbench.recipe.recipe import Recipe
from clbench.runner.preflight import named
from clbench.streams import Stream, Task


def stages_of(methods: Sequence[Method], stream: Stream) -> Sequence[Task]:
    """What is trained on, in order: the tasks, unless a method arranges them anew.

    Their test data is withheld: the meter has it.
    """
    stages: Sequence[Task] = [task.to_train_on() for task in stream.tasks]
    arranging = overriding(methods, "arrange")  # all tasks at once, say
    for method in arranging:
        stages = method.arrange(stages)
    count = len(stages) if arranging else len(stages) + len(stream.later)
    return [replace(task, stage=place, stages=count) for place, task in enumerate(stages)]


class Length(NamedTuple):
    """The training of a task: optimiser steps, and samples of all of them."""

    steps: int
    samples: int


def planned(recipe: Recipe, stages: Sequence[Task], least: int = 1) -> Iterator[Length]:
    """The training of each task, as far as it is known before the first.

    Args:
        recipe: the run's.
        stages: what it trains on, in order.
        least: images that the network needs at a time.
    """
    past = 0
    for number, task in enumerate(stages):
        rules = recipe.for_task(task.name)
        shares = [method.mixes for method in rules.methods.values()] if number else []
        added = sum(method.added(past) for method in rules.methods.values())
        past += len(task.train)
        train = task.train
        if added:  # as many; which is nothing that their number depends on
            more = torch.zeros(added, dtype=torch.int64)
            train = Split.joined([train, Split(train.images, more, more)])
        mixed = tuple(Mixed(train, share) for share in shares if share)
        batches = Batches(Examples(train, mixed), rules.batch_size, (0,), least=least)
        sizes, together = [sum(parts) for parts in batches.sizes()], accumulated(rules)
        # The last step of an epoch takes the batches that are left.
        epoch = [sum(sizes[i : i + together]) for i in range(0, len(sizes), together)]
        last = (method.last_trained for method in rules.methods.values())
        trains = all(number < one for one in last if one is not None)
        steps = count_steps(rules, len(sizes)) if trains else 0
        epochs, rest = divmod(steps, len(epoch)) if epoch else (0, 0)
        yield Length(steps, epochs * sum(epoch) + sum(epoch[:rest]))


def steps_of_stream(
    recipe: Recipe, stream: Stream, stages: Sequence[Task], least: int = 1
) -> list[int]:
    """Optimiser steps of each task, those included that a run on the first tasks leaves out.

    Args:
        recipe: the run's.
        stream: what it learns.
        stages: how it does.
        least: images that the network needs at a time.
    """
    arranged = overriding(list(recipe.methods.values()), "arrange")  # all tasks at once, say
    whole = stages if arranged else [*stages, *stream.later]
    return [plan.steps for plan in planned(recipe, whole, least)]


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
