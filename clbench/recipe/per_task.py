"""What can differ from task to task of a run, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clbench.data.datasets import DATASETS
from clbench.errors import ClbenchError
from clbench.explain import nearest

#: Keys of a recipe that can differ, with the parts of them that can; none: all of it.
FIELDS: dict[str, tuple[str, ...]] = {
    "epochs": (),
    "steps": (),
    "batch_size": (),
    "optimizer": (),
    "schedule": (),
    "augment": (),
    "label_smoothing": (),
    "ema": (),
    "early_stopping": (),
    "methods": (),
    "model": ("probe",),
    "images": ("mean", "std", "stored", "fit"),
}


def check_settings(
    per_task: Mapping[str, Mapping[str, Any]],
    methods: Sequence[str],
    independent: bool,
    over_stream: bool,
) -> None:
    """Refuse entries of ``per_task`` that cannot be.

    Args:
        per_task: of the recipe.
        methods: names of the recipe's.
        independent: whether every task starts from the pretrained weights.
        over_stream: whether one schedule runs over all tasks.

    Raises:
        ClbenchError: naming the entry, the reason and the way out.
    """
    for task, changes in per_task.items():
        place = f"per_task.{task}"
        _known(place, changes)
        _of_the_run(place, changes.get("methods"), methods)
        _images(place, changes.get("images"), independent)
        _schedule(place, changes.get("schedule"), over_stream)


def check_names(given: Sequence[str], names: Sequence[str]) -> None:
    """Refuse ``per_task`` for tasks that there are not; data sets may be left out of a stream.

    Args:
        given: the keys of ``per_task``.
        names: of the tasks.

    Raises:
        ClbenchError: naming the task and the nearest right name.
    """
    there = list(dict.fromkeys(names))
    for task in given:
        if task not in names and task not in DATASETS:
            raise ClbenchError(
                f"per_task.{task}: there is no such task{nearest(task, there)}; "
                f"the tasks are: {'; '.join(there[:20])}{' …' if len(there) > 20 else ''}"
            )


def _known(place: str, changes: Mapping[str, Any]) -> None:
    can = [key for key, parts in FIELDS.items() if not parts]
    can += [f"{key}.{part}" for key, parts in FIELDS.items() for part in parts]
    for name, inner in changes.items():
        parts = FIELDS.get(name)
        given = inner if parts and isinstance(inner, Mapping) else ()
        wrong = [f"{name}.{key}" for key in given if key not in (parts or ())]
        if parts is None or wrong:
            raise ClbenchError(
                f"{place}.{[*wrong, name][0]} cannot differ between tasks; {', '.join(can)} can"
            )


def _of_the_run(place: str, own: Any, methods: Sequence[str]) -> None:
    if isinstance(own, Mapping) and not own:
        raise ClbenchError(
            f"{place}.methods is empty: all tasks have the same methods; leave it out"
        )
    for name, settings in own.items() if isinstance(own, Mapping) else ():
        if name not in methods or settings is None:
            raise ClbenchError(
                f"{place}.methods.{name}: all tasks have the same methods "
                f"({', '.join(methods) or 'none'}), only their settings can differ"
            )


def _images(place: str, own: Any, independent: bool) -> None:
    if own and not independent:
        raise ClbenchError(
            f"{place}.images needs a stream with independent: true (transfer6), as a network that "
            "goes through several tasks is to see all images alike"
        )


def _schedule(place: str, own: Any, over_stream: bool) -> None:
    over = own.get("over", "task") if isinstance(own, Mapping) else "task"
    if own and (over == "stream" or over_stream):
        raise ClbenchError(
            f"{place}.schedule: a schedule over the stream is one for all tasks: leave it out, or "
            "say schedule.over: task for the run"
        )
