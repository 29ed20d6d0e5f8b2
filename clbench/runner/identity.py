"""Whether what a run goes on with is still what its record says: data, classes, weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from clbench.errors import ClbenchError
from clbench.plugins.recipes import NotLoaded
from clbench.recipe.recipe import Recipe, parse
from clbench.record import checkpoints, saved
from clbench.record.events import Event, TaskEvent
from clbench.record.record import Record
from clbench.record.recorder import lines_sha256
from clbench.runner.folder import different
from clbench.text.yamltext import read_text

#: What the ``run`` event says of what goes into a run, and what that is called.
IDENTITY = {
    "stream_version": "rules of the stream",  # first, as they change what follows
    "class_names": "classes",
    "tasks": "tasks",
    "split_manifest_sha256": "data",
    "retention_images_sha256": "images that retention is measured on",
    "retention_labels_sha256": "labels of the images that retention is measured on",
    "pretrained_sha256": "pretrained weights",
}
#: The same, of the split manifest.
MANIFEST = {
    "train_images": "training images",
    "test_images": "test images",
    "pretrain_classes": "pretraining classes",
    "tasks": "tasks or their split",
}

#: What a checkpoint must hold to go on from it.
NEEDED = {"done", "step", "theta", "shown", "learned", "methods"}


def compare(record: Record, now: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    """Compare what there is with what a run had.

    Args:
        record: of the run.
        now: what its ``run`` event would be: at least the keys of :data:`IDENTITY`.
        manifest: the split manifest of the data that is there.

    Returns:
        A line for what cannot be compared, as the record is of an older version.

    Raises:
        ClbenchError: naming what is not the run's own any more.
    """
    then = dict(record.run) | {"pretrained_sha256": record.run.weights.sha256}
    lines = []
    for key, what in IDENTITY.items():
        # Without images to measure it on there is no retention: then null is what is told.
        told = key.startswith("retention_") and record.pretrained is None
        if then[key] is None and not told:
            lines.append(
                f"{record.folder} is of an older version and says nothing of the {what}: they are "
                "not compared."
            )
        elif then[key] != now[key]:
            if key != "split_manifest_sha256":
                _changed(record.folder, what, then[key], now[key])
            lines += _compare_manifests(record, manifest)
    return lines


def compare_recipe(record: Record, recipe: Recipe) -> None:
    """Compare the recipe in ``config.yaml`` with the one that the run began with.

    Raises:
        ClbenchError: if it was changed since, beyond the place of the data, or the record is empty.
    """
    path = record.folder / "record.jsonl"
    if not record.events:
        raise ClbenchError(f"{path} lags behind the checkpoint: it is empty: {_ways(record)}")
    if record.run.recipe is None:
        return  # of an older version, whose recipe is in config.yaml alone
    try:
        then = parse(read_text(record.run.recipe, str(path)))
    except NotLoaded as error:
        raise ClbenchError(f"{path}: {error}") from error
    except ClbenchError:
        return  # of an older version, whose settings were others
    if fields := different(then, recipe):
        raise ClbenchError(
            f"{record.folder / 'config.yaml'} is not the recipe that the run began with any more "
            f"(different: {', '.join(fields)}): put that back, or run again into another folder"
        )


def state_of(
    folder: Path, number: int, parts: Sequence[str], compared: set[Path]
) -> dict[str, Any]:
    """Parts of the state after a task, as :func:`clbench.record.checkpoints.load`.

    Raises:
        ClbenchError: if one of them is not there, too.
    """
    return whole(folder, number, checkpoints.load(folder, number, parts, compared), set(parts))


def last_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state to go on from; None if no task is finished.

    Raises:
        ClbenchError: if it is damaged, or no run has left it.
    """
    found = checkpoints.last(folder)
    if found is None:
        return None
    return whole(folder, checkpoints.numbers(folder)[-1], found, NEEDED)


def whole(folder: Path, number: int, state: dict[str, Any], parts: set[str]) -> dict[str, Any]:
    """The state after task ``number`` if it holds ``parts``.

    Raises:
        ClbenchError: if no run has left it.
    """
    if lacking := sorted(parts - state.keys()):
        saved.refuse(folder, f"it lacks {', '.join(lacking)}")
    if state.get("done", number) != number:
        saved.refuse(folder, f"it is of task {state['done']}, not {number}")
    return state


def take_up(record: Record, task: int, checkpoint: Mapping[str, Any]) -> tuple[Event, ...]:
    """The events up to a checkpoint, which must be those that it was written after.

    Args:
        record: of the run.
        task: index of the last task learned.
        checkpoint: written after it.

    Raises:
        ClbenchError: if the record ends before the checkpoint, or is another one.
    """
    path, ways = record.folder / "record.jsonl", _ways(record)
    events = record.until_task(task)
    if not events:
        raise ClbenchError(
            f"{path} lags behind the checkpoint: it has no line of task {task + 1}, the last one "
            f"learned: {ways}"
        )
    here = checkpoint.get("record_sha256", lines_sha256(events))  # older ones do not know
    steps = events[-1].last_step if isinstance(events[-1], TaskEvent) else None
    if here != lines_sha256(events) or steps != checkpoint["step"]:
        raise ClbenchError(f"{path} is not the one that the checkpoint was written after: {ways}")
    return events


def _ways(record: Record) -> str:
    """The ways out where a record is not the checkpoint's."""
    return (
        "put it back from a copy, or remove the folder "
        f"{record.folder / 'checkpoints'} to resume from the start"
    )


def _compare_manifests(record: Record, now: Mapping[str, Any]) -> list[str]:
    """What differs between two manifests with different hashes."""
    path = record.folder / "split_manifest.json"
    try:
        then = json.loads(path.read_text("utf-8"))
        text = json.dumps(then, sort_keys=True).encode()
        whole = hashlib.sha256(text).hexdigest() == record.run.split_manifest_sha256
    except (OSError, ValueError, RecursionError):
        whole = False
    if not whole:  # so it cannot say what is different
        _changed(record.folder, "data", None, None, f"{path.name} is not the run's own either")
    older = then.get("version") != now.get("version")
    for key, what in MANIFEST.items():
        by_contents = key in ("train_images", "test_images")
        if not (older and by_contents) and then.get(key) != now.get(key):
            _changed(record.folder, "data", then.get(key), now.get(key), what)
    if not older:
        _changed(record.folder, "data", None, None, "their split")
    return [
        f"{record.folder} is of an older version and does not say what is in its images: they are "
        "not compared."
    ]


def _changed(folder: Path, what: str, then: object, now: object, part: str = "") -> NoReturn:
    details = [part] if part else []
    if isinstance(then, str) and isinstance(now, str):
        details.append(f"SHA-256 {now[:12]}, then {then[:12]}")
    elif isinstance(then, int) and isinstance(now, int):
        details.append(f"version {now}, then {then}")
    elif isinstance(then, list) and isinstance(now, list):
        lost = [repr(x) for x in then if x not in now and isinstance(x, str)]
        new = [repr(x) for x in now if x not in then and isinstance(x, str)]
        details += [f"gone: {', '.join(lost[:3])}"] * bool(lost)
        details += [f"new: {', '.join(new[:3])}"] * bool(new)
    told = f" ({'; '.join(details)})" if details else ""
    raise ClbenchError(
        f"the {what} of {folder} are not those of the run any more{told}: put the run's own "
        "back, or run again into another folder"
    )
