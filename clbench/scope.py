"""How much a method could do: settings that leave it next to nothing are found, and said aloud.

Every method has a *scope* in each task in which it was active, a number in 0…1: 1 is all that it
could do there, 0 nothing. What it is a share of is each method's own matter
(:attr:`clbench.method.Method.scope_means`); one bound holds for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from clbench.loss import Logits
    from clbench.method import Method
    from clbench.recipe import Recipe

#: A method of less scope could do next to nothing.
LITTLE = 0.1
#: Methods whose scope is about class-incremental accuracy alone.
CLASS_INCREMENTAL = ("replay",)


class Remark(NamedTuple):
    """A reason not to trust what a method does in a task.

    Attributes:
        what: is wrong, in the same words whenever it is.
        detail: the numbers, and the way out.
    """

    what: str
    detail: str


@dataclass(frozen=True)
class Plan:
    """What is known of a task's training before its first step.

    Attributes:
        total_steps: optimiser steps, T.
        rate: the learning rate as a factor of its peak, for each step from 0.
        train_logits: classes in the training loss.
    """

    total_steps: int
    rate: Callable[[int], float]
    train_logits: Logits

    @classmethod
    def of(
        cls, recipe: Recipe, total_steps: int, before: int = 0, stream_steps: int | None = None
    ) -> Plan:
        """That of a task.

        Args:
            recipe: with the task's own settings.
            total_steps: of the task.
            before: those of the tasks before it.
            stream_steps: those of all tasks; default: up to the end of this one.
        """
        from clbench.optimizer import learning_rate  # PyTorch takes seconds

        rate = learning_rate(recipe.schedule, total_steps, before, stream_steps)
        # Where tasks share labels, the classes of one task are all there are.
        return cls(total_steps, rate, "all" if recipe.stream.shares_labels else recipe.train_logits)

    def left(self, step: int) -> float:
        """The share of the task's learning rate that is still to come after step ``step``, from 1.

        Learning rates are summed over steps: of plain SGD it is the share of the way that is left
        at a constant gradient.
        """
        return 1 - self._sums[step] / self._sums[-1] if self._sums[-1] else 0.0

    @cached_property
    def _sums(self) -> list[float]:
        """Learning rates summed up to each step, from 0 to T."""
        return list(accumulate(map(self.rate, range(self.total_steps)), initial=0.0))


def is_little(scope: float) -> bool:
    """Whether a method of this scope could do next to nothing."""
    return scope < LITTLE - 1e-9  # 1 - 0.9 is a little less than 0.1


def foreseen(recipe: Recipe, tasks: Sequence[tuple[str, int]]) -> dict[str, float]:
    """The mean scope of each method over the tasks in which it acts, as far as settings tell.

    It is 1 where they tell nothing, or where it acts in none.

    Args:
        recipe: the run's.
        tasks: name and optimiser steps of each, in order; several may have one name.
    """
    found: dict[str, list[float]] = {name: [] for name in recipe.methods}
    before, total = 0, sum(count for _, count in tasks)
    for number, (task, count) in enumerate(tasks, 1):
        rules = recipe.for_task(task)
        plan = Plan.of(rules, count, before, total)
        for name, method in rules.methods.items():
            if number >= method.first_task:
                found[name].append(method.scope(plan))
        before += count
    return {name: fmean(scopes) if scopes else 1.0 for name, scopes in found.items()}


def sentence(name: str, scope: float, means: str, where: str = "") -> str:
    """That a method could do next to nothing.

    Args:
        name: of the method.
        scope: of it.
        means: what the scope is a share of.
        where: in what; nothing for the run.
    """
    told = f"method {name} could do next to nothing{where and f' in {where}'}"
    return f"{told} (scope {scope:.2%}){means and f': {means}'}"


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


def mean_scopes(names: list[str], tasks: list[dict[str, Any]]) -> dict[str, float | None]:
    """The mean scope of each method over the tasks in which it was active; None: nothing is known.

    Args:
        names: of the methods.
        tasks: events of a record.
    """
    scopes: dict[str, float | None] = {}
    for name in names:
        told = [event["methods"][name].get("scope") for event in tasks]
        known = [scope for scope in told if scope is not None]
        scopes[name] = sum(known) / len(known) if known else None
    return scopes
