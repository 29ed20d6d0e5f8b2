"""What must hold within the records of a row, whatever machine looks at them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from clbench.files.disk import to_json
from clbench.record.events import Measured, TaskEvent
from clbench.submission.checks.base import PackedRow, of_every_run
from clbench.submission.here import Here, NotMade, drawn
from clbench.submission.submission import PackedRun

#: Operations a second of one device, above any there is.
PEAK = 2e16
#: How far a share of n images may lie from k/n, for single precision.
ROUNDING = 1e-6
#: Cells that must agree before equal accuracies of two seeds are more than chance.
TELLING = 10


@of_every_run
def scores(one: PackedRun, here: Here) -> str | None:
    """A better ``summary.json`` beside an honest record: every score is computed anew."""
    if one.summary is None:
        raise NotMade("there is no summary.json")
    return _apart(one.summary, json.loads(to_json(one.run.summary)), "")


def _apart(told: Any, found: Any, where: str) -> str | None:
    """The first place where two plain values differ; keys of one alone are another version's."""
    if isinstance(told, dict) and isinstance(found, dict):
        both = (key for key in found if key in told)
        wrong = (_apart(told[key], found[key], f"{where}.{key}" if where else key) for key in both)
        return next(filter(None, wrong), None)
    if isinstance(told, list) and isinstance(found, list) and len(told) == len(found):
        pairs = enumerate(zip(told, found, strict=True))
        wrong = (_apart(*pair, f"{where}[{number}]") for number, pair in pairs)
        return next(filter(None, wrong), None)
    numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in (told, found)]
    same = math.isclose(told, found, rel_tol=1e-9, abs_tol=1e-12) if all(numbers) else told == found
    return None if same else f"summary.json has {where} = {told!r:.40}, the record {found!r:.40}"


def measurements(one: PackedRun) -> Iterator[tuple[str, Measured]]:
    """Everything a run measured on test images, and where."""
    for event in one.run.record.events:
        ahead = getattr(event, "ahead", None)
        if ahead:
            yield f"{event.event}, tasks to come", ahead
    for event in one.run.record.tasks:
        for step, point in event.course():
            yield f"task {event.task}, step {step}", point


@of_every_run
def scenarios(one: PackedRun, here: Here) -> str | None:
    """Class-incremental accuracies made up by themselves.

    An image that is right among all classes seen is right among those of its task.
    """
    for where, point in measurements(one):
        pairs = zip(point.task_incremental, point.class_incremental, strict=True)
        for number, (by_task, by_class) in enumerate(pairs, point.first):
            if by_class > by_task:
                return (
                    f"{where}: class-incremental {by_class:.4f} on task {number} is above "
                    f"task-incremental {by_task:.4f}"
                )
            if one.run.record.run.shared_labels and by_class != by_task:
                return f"{where}: tasks share their labels, but the two accuracies differ"
    return None


@of_every_run
def order(one: PackedRun, here: Here) -> str | None:
    """Lines put together from several runs: steps that run back, tasks out of order."""
    before, every = 0, one.run.recipe.get("eval_every")
    laid = one.run.record.run.laid_on is not None
    tasks = one.run.record.tasks
    if [event.task for event in tasks] != sorted(event.task for event in tasks):
        return "tasks are out of order"
    for event in tasks:
        if not laid and event.last_step - before != event.steps:
            return f"task {event.task} has {event.steps} steps, but its steps are counted otherwise"
        steps = [point.step for point in event.curve]
        inside = all(before < step <= event.last_step for step in steps)
        if steps != sorted(set(steps)) or not inside:
            return f"task {event.task}: points of its curve are out of its steps"
        if every and any(step % every for step in steps):
            return f"task {event.task}: points of its curve are not at every {every}th step"
        before = event.last_step
    return None


@of_every_run
def times(one: PackedRun, here: Here) -> str | None:
    """Made-up times: parts longer than the whole, more operations a second than any machine has."""
    for event in one.run.record.tasks:
        parts = sum(took.seconds for took in event.parts.values())
        if parts > event.seconds * 1.001 + 0.01:
            return f"task {event.task}: its parts took {parts:.1f} s of {event.seconds:.1f}"
        fit = event.parts.get("fit")
        seconds, devices = fit.seconds if fit else event.seconds, event.processes or 1
        speed = event.flops / seconds / devices if event.flops and seconds else 0.0
        if speed > PEAK:
            return f"task {event.task}: {speed:.0e} operations a second are beyond any device"
    return None


@of_every_run
def retention(one: PackedRun, here: Here) -> str | None:
    """Made-up retention: top-1 above top-5."""
    record = one.run.record
    told = [record.pretrained, *(event.retention for event in record.tasks)]
    for number, found in enumerate(told):
        if found and found.top1 > found.top5:
            return f"retention {number}: top-1 {found.top1:.4f} is above top-5 {found.top5:.4f}"
    return None


def seeds_once(row: PackedRow, here: Here) -> str | None:
    """One seed counted twice: another draw of the same recipe and seed."""
    if row.twice:
        return f"runs {', '.join(map(str, row.twice))} repeat a recipe and a seed of it"
    return None


def copies(row: PackedRow, here: Here) -> str | None:
    """One run handed in as several, under other seeds."""
    kinds = (("seconds", _seconds), ("losses", _losses), ("accuracies", _accuracies))
    for what, told in kinds:
        known: dict[Any, int] = {}
        for one in row.members:
            found = told(one)
            if found is None:
                continue
            if (other := known.setdefault(found, one.run.seed)) != one.run.seed:
                return f"seeds {other} and {one.run.seed} have the same {what} in all tasks"
    return None


def _seconds(one: PackedRun) -> tuple[float, ...] | None:
    """Clocks of two runs do not agree to the last digit."""
    found = tuple(event.seconds for event in one.run.record.tasks)
    return found if any(value != round(value, 3) for value in found) else None


def _trained(one: PackedRun) -> bool:
    """Whether chance had a hand in a run: without steps, all seeds are alike."""
    return all(event.steps for event in one.run.record.tasks)


def _losses(one: PackedRun) -> tuple[float | None, ...] | None:
    found = tuple(event.loss for event in one.run.record.tasks)
    known = [loss for loss in found if loss]
    return found if known and len(known) == len(found) and _trained(one) else None


def _accuracies(one: PackedRun) -> tuple[float, ...] | None:
    """None where it would be no wonder that two seeds agree."""
    tasks: list[TaskEvent] = list(one.run.record.tasks)
    found = [a for e in tasks for a in (*e.task_incremental, *e.class_incremental)]
    telling = [value for value in found if 0 < value < 1]
    return tuple(found) if len(set(telling)) >= TELLING and _trained(one) else None


def splits(row: PackedRow, here: Here) -> str | None:
    """Seeds that were trained or tested on other images: no seed changes a split."""
    for key, what in (
        ("split_manifest_sha256", "splits"),
        ("retention_images_sha256", "images of retention"),
        ("test_images", "numbers of test images"),
    ):
        told = {one.run.seed: getattr(one.run.record.run, key) for one in row.members}
        known = {seed: value for seed, value in told.items() if value is not None}
        first = next(iter(known.items()), (0, None))
        for seed, value in known.items():
            if value != first[1]:
                return f"seeds {first[0]} and {seed} have different {what}"
    return None


def weights(row: PackedRow, here: Here) -> str | None:
    """Other weights under the same name; or one set of weights where each seed draws its own."""
    known: dict[Any, tuple[str, int]] = {}
    for one in row.members:
        about = one.run.record.run
        sha256, source = about.weights.sha256, about.weights.source
        if sha256 is None:
            continue
        key = (sha256,) if drawn(one) else (source,)
        seed, other = one.run.seed, known.setdefault(key, (sha256, one.run.seed))
        if drawn(one) and other[1] != seed:
            return f"seeds {other[1]} and {seed} start from one draw of weights ({source})"
        if not drawn(one) and other[0] != sha256:
            return f"seeds {other[1]} and {seed} have different weights under the name {source}"
    return _elsewhere(row, here)


def _elsewhere(row: PackedRow, here: Here) -> str | None:
    """The same name in other submissions."""
    one = row.members[0]
    about = one.run.record.run
    if drawn(one) or about.weights.sha256 is None or "." not in (about.weights.source or "."):
        return None
    for other in here.others:
        for run in other.runs:
            theirs = run.record.run
            alike = (theirs.backbone, theirs.weights.source, theirs.options, theirs.size)
            if alike != (about.backbone, about.weights.source, about.options, about.size):
                continue
            if theirs.weights.sha256 not in (None, about.weights.sha256):
                return f"{about.weights.source} are other weights than those in {other.path.name}"
    return None
