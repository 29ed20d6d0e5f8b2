"""Whether a stream keeps to what is asked of streams: :func:`check_stream`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from clbench.errors import ClbenchError, reason
from clbench.recipe.recipe import Recipe, parse
from clbench.streams import STREAMS, Stream, StreamConfig, Task
from clbench.testing.bench import TINY, Bench, row
from clbench.text.yamltext import dump, read_text

#: Images of each part whose pixels are compared.
LOOK = 16


def check_stream(
    values: Mapping[str, Any],
    kind: type[StreamConfig] | None = None,
    *,
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Check a stream, and a tiny run over its first two tasks.

    * **settings**: they are read back from ``config.yaml`` as they were;
    * **tasks**: each has training and test images, whose labels are its classes'; the classes are
      the first, the second … of all; no image is for training and validation;
    * **again**: built again, images, labels and manifest are the same;
    * **manifest**: is plain values, which identify the stream;
    * **trains**: two steps a task.

    Args:
        values: the recipe's ``stream``, with its name.
        kind: the stream's class, if no table has it.
        recipe: values of a recipe beside it, as ``{"images": {"size": 32}, "data_dir": "data"}``.

    Raises:
        AssertionError: with a line for each fault, which begins with one of the words above.
    """
    known = row(STREAMS, str(values["name"]), kind) if kind else nullcontext()
    with tempfile.TemporaryDirectory() as folder, known:
        model = {**TINY["model"], "weights": "none"}
        changes = {"stream": dict(values), "model": model, "steps": 2, **(recipe or {})}
        bench = Bench(Path(folder), changes)
        try:
            made = bench.recipe({})
            faults = [*_settings(made)]
            stream, again = made.build_stream(), made.build_stream()
            unplain = list(_manifest(stream))
            faults += unplain or [*_tasks(stream), *_again(stream, again)]
            if not faults:
                faults += _trains(bench, values)
        except ClbenchError as error:
            faults = [f"tasks: {error}"]
        except Exception as error:  # a stream's own code
            faults = [f"tasks: {type(error).__name__}: {reason(error)[:300]}"]
    if faults:
        raise AssertionError("\n".join([f"{values['name']} has faults:", *faults]))


def _settings(recipe: Recipe) -> Iterator[str]:
    before = recipe.model_dump(mode="json")
    if parse(read_text(dump(before), "config.yaml")).model_dump(mode="json") != before:
        yield "settings: they are others when read back from config.yaml"


def _tasks(stream: Stream) -> Iterator[str]:
    if not stream.tasks:
        yield "tasks: there are none"
    first = 0
    for place, task in enumerate(stream.tasks):
        where = f"tasks: {task.name}"
        if task.index != place:
            yield f"{where}: its index is {task.index}, not {place}"
        start = 0 if stream.shared else first
        if task.classes.start != start or not len(task.classes):
            yield f"{where}: its classes are {task.classes}, and should begin with {start}"
        first = task.classes.stop
        yield from (f"{where}: {wrong}" for wrong in _splits(task))
    if stream.tasks and max(task.classes.stop for task in stream.tasks) > len(stream.class_names):
        yield f"tasks: there are names of {len(stream.class_names)} classes only"


def _splits(task: Task) -> Iterator[str]:
    for part in ("train", "validation", "test"):
        split = getattr(task, part)
        if not len(split) and part != "validation":
            yield f"it has no {part} images"
        strange = set(split.labels.tolist()) - set(task.classes)
        if strange:
            yield f"{part} images have the labels {sorted(strange)[:5]}, which are not its own"
    both = set(task.train.index.tolist()) & set(task.validation.index.tolist())
    if both:
        yield f"{len(both)} images are for training and validation"


def _again(one: Stream, other: Stream) -> Iterator[str]:
    if one.manifest_hash != other.manifest_hash:
        yield "again: the manifest is another: draw by clbench.seeding.derive, from settings alone"
    for ours, theirs in zip(one.tasks, other.tasks, strict=False):
        one.open(ours, past=False)
        other.open(theirs, past=False)
        for part in ("train", "validation", "test"):
            a, b = getattr(ours, part), getattr(theirs, part)
            same = torch.equal(a.labels, b.labels) and torch.equal(a.index, b.index)
            if not same or not torch.equal(*(x.images.take(x.index[:LOOK]) for x in (a, b))):
                yield f"again: {ours.name} has other {part} images or labels"


def _manifest(stream: Stream) -> Iterator[str]:
    try:
        json.dumps(stream.manifest)
    except (TypeError, ValueError) as error:
        yield f"manifest: it cannot be written as JSON: {reason(error)}"


def _trains(bench: Bench, values: Mapping[str, Any]) -> Iterator[str]:
    try:
        count = min(2, values.get("first_tasks") or 2)
        bench.values["stream"] = {**values, "first_tasks": count}
        bench.run(bench.recipe({}))
    except Exception as error:
        yield f"trains: {type(error).__name__}: {reason(error)[:300]}"
