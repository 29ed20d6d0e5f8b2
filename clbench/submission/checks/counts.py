"""What follows from a recipe and the sizes of its data alone: images, steps, parameters."""

from __future__ import annotations

from collections.abc import Iterator

from clbench.errors import ClbenchError
from clbench.runner.steps import planned, stages_of
from clbench.submission.checks.base import of_every_run
from clbench.submission.checks.records import ROUNDING, measurements
from clbench.submission.here import Here, NotMade
from clbench.submission.submission import PackedRun


@of_every_run
def sizes(one: PackedRun, here: Here) -> str | None:
    """Easier tests: fewer test images, other tasks, fewer classes than the recipe makes."""
    run, stream = one.run.record.run, here.sizes(one.run)
    found = (
        ("tasks", len(run.tasks), len(stream.tasks)),
        ("classes", len(run.class_names), len(stream.class_names)),
        ("test images", run.test_images, [len(task.test) for task in stream.tasks]),
        ("ranges of classes", run.classes, [[*_ends(task.classes)] for task in stream.tasks]),
    )
    for what, told, wanted in found:
        if told not in (None, wanted):
            return f"the record has {told!r:.80} {what}, the recipe makes {wanted!r:.80}"
    return None


def _ends(classes: range) -> tuple[int, int]:
    return classes.start, classes.stop


@of_every_run
def whole_images(one: PackedRun, here: Here) -> str | None:
    """Accuracies that no number of right answers gives: of n images, all are k/n."""
    run = one.run.record.run
    images = run.test_images or [len(task.test) for task in here.sizes(one.run).tasks]
    for where, point in measurements(one):
        own = images[point.evaluated.start : point.evaluated.stop]
        for name in ("task_incremental", "class_incremental"):
            for number, (value, n) in enumerate(zip(getattr(point, name), own, strict=True)):
                if not _is_share(value, n):
                    task = point.first + number
                    return f"{where}: {value!r:.20} of {n} images of task {task} is no whole number"
    return None


def _is_share(value: float, n: int) -> bool:
    return abs(value * n - round(value * n)) <= ROUNDING * n + 1e-9


@of_every_run
def held_out(one: PackedRun, here: Here) -> str | None:
    """The same of images held out, and of retention on the classes set apart for pretraining."""
    run, stream = one.run.record.run, here.sizes(one.run)
    for event in one.run.record.tasks:
        if event.validation:
            sizes = [len(stream.tasks[i].validation) for i in event.validation.evaluated]
            for values in (event.validation.task_incremental, event.validation.class_incremental):
                for value, n in zip(values, sizes, strict=True):
                    if n and not _is_share(value, n):
                        return f"task {event.task}: {value!r:.20} of {n} validation images"
    kept = one.run.recipe.get("retention") or {}
    if stream.pretraining and run.weights.source == "pretrain" and kept.get("data") == "auto":
        n = len(stream.pretraining[1])
        for number, value in enumerate(_retained(one)):
            if not _is_share(value, n):
                return f"retention {number}: {value!r:.20} of {n} images is no whole number"
    return None


def _retained(one: PackedRun) -> Iterator[float]:
    record = one.run.record
    for found in (record.pretrained, *(event.retention for event in record.tasks)):
        if found:
            yield from (found.top1, found.top5)


@of_every_run
def steps(one: PackedRun, here: Here) -> str | None:
    """A larger budget than is told: more steps or samples than the recipe comes to."""
    run, stream = one.run.record.run, here.sizes(one.run)
    try:
        recipe = here.recipe(one.run)
        methods = [method.model_copy(deep=True) for method in recipe.methods.values()]
        plans = list(planned(recipe, stages_of(methods, stream)))
    except ClbenchError as error:
        raise NotMade(f"its steps cannot be counted: {error}") from error
    if run.laid_on is not None:
        raise NotMade("it is laid on another run, which alone trained")
    events = one.run.record.tasks
    if len(events) != len(plans):
        return f"the record has {len(events)} stages of training, the recipe makes {len(plans)}"
    stops = recipe.early_stopping.every is not None
    for event, plan in zip(events, plans, strict=True):
        told = (("steps", event.steps, plan.steps), ("samples", event.samples, plan.samples))
        for what, there, wanted in told:
            if there > wanted or (there < wanted and not stops):
                return f"task {event.task} has {there:,} {what}, the recipe makes {wanted:,}"
    return None


@of_every_run
def network_size(one: PackedRun, here: Here) -> str | None:
    """A larger network than is told."""
    told, found = one.run.record.run.parameters, here.parameters(one.run)
    return None if told == found else f"the record has {told:,} parameters, the network {found:,}"
