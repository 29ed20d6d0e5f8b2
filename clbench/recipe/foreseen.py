"""What settings leave a method to do, before anything is run; and what it did beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from clbench.methods.base import Method
from clbench.methods.plan import Plan
from clbench.recipe.recipe import Recipe
from clbench.record.scopes import is_little, sentence


def plan_of(
    recipe: Recipe, total_steps: int, before: int = 0, stream_steps: int | None = None
) -> Plan:
    """The plan of a task.

    Args:
        recipe: with the task's own settings.
        total_steps: of the task.
        before: those of the tasks before it.
        stream_steps: those of all tasks; default: up to the end of this one.
    """
    from clbench.optim.settings import learning_rate  # PyTorch takes seconds

    rate = learning_rate(recipe.schedule, total_steps, before, stream_steps)
    # Where tasks share labels, the classes of one task are all there are.
    logits = "all" if recipe.stream.shares_labels else recipe.train_logits
    return Plan(total_steps, rate, logits, total_steps * recipe.batch_size)


def without_effect(recipe: Recipe, tasks: Sequence[str]) -> dict[str, str]:
    """What the recipe alone tells of methods that will change nothing in any task; a line of each.

    Args:
        recipe: the run's.
        tasks: their names, in order.
    """
    found = {}
    own = [recipe.for_task(task).methods for task in tasks]
    for name, method in recipe.methods.items():
        if all(methods[name].first_task > number for number, methods in enumerate(own, 1)):
            found[name] = f"it acts from task {method.first_task} on, of {len(tasks)}"
        elif all(_is_neutral(methods[name]) for methods in own):
            found[name] = ", ".join(f"{key}: {value:g}" for key, value in method.neutral.items())
    return {name: f"method {name} will have no effect: {why}" for name, why in found.items()}


def stopped_by_scored(recipe: Recipe) -> list[str]:
    """A line where a task ends by the images that it is scored on, in a run or a try in tuning."""
    rules = (recipe, *map(recipe.for_task, recipe.per_task))
    if recipe.stream.test_on == "test" or not any(rule.early_stopping.every for rule in rules):
        return []
    return [
        "early_stopping looks at the validation images, and stream.test_on = 'validation' scores "
        "on them: what is scored is also what stops a task, so scores are too good"
    ]


def foreseen(recipe: Recipe, tasks: Sequence[tuple[str, int]], rest: int = 0) -> dict[str, float]:
    """The mean scope of each method over the tasks in which it acts, as far as settings tell.

    It is 1 where they tell nothing, or where it acts in none.

    Args:
        recipe: the run's.
        tasks: name and optimiser steps of each, in order; several may have one name.
        rest: steps of the stream's tasks after these, where only the first are learned.
    """
    found: dict[str, list[float]] = {name: [] for name in recipe.methods}
    before, total = 0, sum(count for _, count in tasks) + rest
    for number, (task, count) in enumerate(tasks, 1):
        if not count:
            continue  # nothing is trained
        rules = recipe.for_task(task)
        plan = plan_of(rules, count, before, total)
        for name, method in rules.methods.items():
            if number >= method.first_task and not _is_neutral(method):
                found[name].append(method.scope(plan))
        before += count
    return {name: fmean(scopes) if scopes else 1.0 for name, scopes in found.items()}


def _is_neutral(method: Method) -> bool:
    same = [getattr(method, name) == value for name, value in method.neutral.items()]
    return bool(same) and all(same)


def with_scope(
    method: Method, activity: Mapping[str, float], plan: Plan, measured: float | None
) -> dict[str, float]:
    """A method's activity in a task with its ``scope``, where it was active.

    Args:
        method: the method.
        activity: what it says of itself. Its own scope goes before all others.
        plan: of the task.
        measured: the scope that was measured in training; None where none was.
    """
    if not activity.get("active", 1):
        return {key: value for key, value in activity.items() if key != "scope"}
    return {"scope": method.scope(plan) if measured is None else measured, **activity}


def little(recipe: Recipe, names: Sequence[str], steps: Sequence[int]) -> Iterator[str]:
    """What the settings leave methods to do, where that is little or nothing, a line each.

    Args:
        recipe: of a run.
        names: of the tasks of its stages, in order.
        steps: of each stage, and then of tasks of the stream that are no stage of this run.
    """
    yield from (*without_effect(recipe, names).values(), *stopped_by_scored(recipe))
    count = len(names)
    scopes = foreseen(recipe, list(zip(names, steps[:count], strict=True)), sum(steps[count:]))
    for name, scope in scopes.items():
        if is_little(scope):
            yield sentence(name, scope, recipe.methods[name].scope_means)
