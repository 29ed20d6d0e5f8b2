"""How much a method could do: settings that leave it next to nothing are found, and said aloud.

Every method has a *scope* in each task in which it was active, a number in 0…1: 1 is all that it
could do there, 0 nothing. What it is a share of is each method's own matter
(:attr:`clbench.methods.base.Method.scope_means`); one bound holds for all.
"""

from __future__ import annotations

from collections.abc import Sequence

from clbench.record.events import TaskEvent

#: A method of less scope could do next to nothing.
LITTLE = 0.1


def is_little(scope: float) -> bool:
    """Whether a method of this scope could do next to nothing."""
    return scope < LITTLE - 1e-9  # 1 - 0.9 is a little less than 0.1


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


def mean_scopes(names: Sequence[str], tasks: Sequence[TaskEvent]) -> dict[str, float | None]:
    """The mean scope of each method over the tasks in which it was active; None: nothing is known.

    Args:
        names: of the methods.
        tasks: events of a record.
    """
    scopes: dict[str, float | None] = {}
    for name in names:
        told = [event.methods[name].get("scope") for event in tasks]
        known = [scope for scope in told if scope is not None]
        scopes[name] = sum(known) / len(known) if known else None
    return scopes
