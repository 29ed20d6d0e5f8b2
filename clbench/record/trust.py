"""What a run folder must hold to be reported; checked before any of it is computed with.

Records are made by runs, but a report may be given anybody's: :mod:`clbench.record.events` says
what each line must be, and here is what must hold between them, and of the files beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from clbench.errors import ClbenchError
from clbench.record import reading
from clbench.record.events import Measured, Number, PretrainedEvent, Scenario, Text
from clbench.record.lines import events
from clbench.record.record import Record
from clbench.text.texts import cut_line

#: A run that is to be gone on with may have a record so many times as large as one in a report:
#: it is probably one's own, and there is only one of it.
OWN = 8

ByScenario = Mapping[Scenario, Number | None]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Environment(_Shape):
    python: Text = "unknown"
    packages: dict[Text, Text] = {}


class _SweepRow(_Shape):
    value: Number | Annotated[str, StringConstraints(max_length=100)]
    overall_performance: Number | ByScenario | None = None
    backward_transfer: Number | ByScenario | None = None
    retention: Number | ByScenario | None = None


class _Sweep(_Shape):
    parameter: Text | None = None
    anchor: Text | None = None
    rows: Annotated[list[_SweepRow], Field(min_length=1, max_length=10_000)]


def record_of(folder: Path, times: int = 1) -> Record:
    """The record of a folder, checked.

    Args:
        folder: of the run.
        times: how often the usual bounds it may have.

    Raises:
        ClbenchError: if there is none that a run can have written, in half a line.
        OSError: if it cannot be read.
    """
    return record_in(reading.content_of(folder / "record.jsonl", times), folder)


def record_in(content: bytes, folder: Path) -> Record:
    """The record that ``record.jsonl`` holds, checked.

    Args:
        content: of the file, within bounds.
        folder: of the run, for messages; nothing is read there.

    Raises:
        ClbenchError: if it is none that a run can have written, in half a line.
    """
    try:
        record = Record(folder, tuple(events(folder / "record.jsonl", content)))
    except (RecursionError, ValueError, TypeError) as error:
        raise ClbenchError(f"record.jsonl is no record ({type(error).__name__})") from error
    check(record)
    return record


def whole_record(folder: Path) -> Record:
    """The record of a folder that is to be gone on with; its recipe is seen to be one too.

    Raises:
        ClbenchError: if one of them is not what a run writes, in one line.
    """
    if not (folder / "record.jsonl").exists():
        return Record.load(folder)  # says that there is none
    try:
        if not config_of(folder):
            raise ClbenchError("there is no config.yaml in it, or an empty one")
        record = record_of(folder, OWN)
    except ClbenchError as error:
        raise ClbenchError(cut_line(f"{folder} cannot be gone on with: {error}")) from error
    except OSError as error:
        name = Path(str(error.filename or "")).name
        told = f"{folder} cannot be read: {name}: {error.strerror}"
        raise ClbenchError(cut_line(told)) from error
    return record


def check(record: Record) -> None:
    """See that the events of a record go together as those that a run writes do.

    Raises:
        ClbenchError: if it is not, with the reason.
    """
    events = record.events
    if not events:
        return  # just begun
    kinds = [event.event for event in events]
    if kinds.count("run") != 1 or kinds.count("pretrained") > 1 or kinds[0] != "run":
        raise ClbenchError("record.jsonl must have one event run, first, and one pretrained")
    if "pretrained" not in kinds and len(kinds) > 1:
        raise ClbenchError("record.jsonl has no event pretrained")
    reading.tame([record.run.methods, record.run.options], "record.jsonl")
    _tasks(record)


def _tasks(record: Record) -> None:
    """What must hold between the tasks and the rest."""
    count, tasks = len(record.run.tasks), record.tasks
    sizes = record.run.test_images
    if sizes is not None and len(sizes) != count:
        raise ClbenchError(f"record.jsonl has test images of {len(sizes)} tasks, of {count}")
    if record.finished and count - 1 not in [event.task for event in tasks]:
        raise ClbenchError(f"record.jsonl ends without task {count - 1}, the last of {count}")
    for start in record.events:
        if isinstance(start, PretrainedEvent):
            _ahead(start.ahead, range(count), "the event pretrained")
    for event in tasks:
        where = f"task {event.task} in record.jsonl"
        held_out = [event.validation] if event.validation else []
        for point in (*(point for _, point in event.course()), *held_out):
            if not len(point.evaluated) == len(point.class_incremental) > 0:
                raise ClbenchError(f"{where} has accuracies of other tasks than it evaluated")
            metrics = point.metrics.values()
            if any(len(v) != len(point.evaluated) for found in metrics for v in found.values()):
                raise ClbenchError(f"{where} has metrics of other tasks than it evaluated")
            if point.evaluated.stop > count:
                raise ClbenchError(f"{where} evaluated {point.evaluated.stop} tasks of {count}")
        if any(len(v) != len(event.evaluated) for v in event.representation.values()):
            raise ClbenchError(f"{where} has representation of other tasks than it evaluated")
        if event.representation.keys() != tasks[0].representation.keys():
            raise ClbenchError(f"{where} and the first task differ in representation")
        _ahead(event.ahead, range(event.task + 1, count), where)
        if event.task >= count:
            raise ClbenchError(f"{where}: there are {count} tasks only")
        if (event.retention is None) != (record.pretrained is None):
            raise ClbenchError(f"{where} and the event pretrained differ in whether they retain")
        if event.retained.keys() != record.retained_before.keys():
            raise ClbenchError(f"{where} and the event pretrained differ in what they retain")
        lacking = record.run.methods.keys() - event.methods.keys()
        if lacking:
            raise ClbenchError(f"{where} says nothing of method {min(lacking)[:60]!r}")


def _ahead(part: Measured | None, wanted: range, where: str) -> None:
    """Of the tasks to come, all are tested, or none."""
    if part and not (part.evaluated == wanted and len(part.class_incremental) == len(wanted)):
        raise ClbenchError(f"{where} has accuracies ahead of other tasks than are to come")


def config_of(folder: Path, recorded: str | None = None) -> dict[str, Any]:
    """A run's recipe: as its record has it, which an edit of ``config.yaml`` does not change.

    Of older records that of ``config.yaml``; empty if it was not copied along.

    Args:
        folder: of the run.
        recorded: the recipe in the record, as YAML.

    Raises:
        ClbenchError: if it is no recipe that a run can have written.
        OSError: if it cannot be read.
    """
    path = folder / "config.yaml"
    if recorded is not None:
        return recipe_in(recorded, "the recipe in record.jsonl")
    if not path.exists() and not path.is_symlink():
        return {}
    return recipe_in(reading.read(path, reading.RECIPE_BYTES), path.name)


def recipe_in(text: str, name: str) -> dict[str, Any]:
    """The values of a recipe, from its text.

    Raises:
        ClbenchError: if it is no recipe that a run can have written.
    """
    values = reading.yaml_in(text, name)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ClbenchError("config.yaml is no recipe: it must be a mapping of names to values")
    if len(str(values)) > reading.RECIPE_BYTES * 2:
        raise ClbenchError("config.yaml is no recipe: its values are too long")
    return values


def environment_of(folder: Path) -> dict[str, Any]:
    """What is in ``environment.json``; empty if it was not copied along.

    Raises:
        ClbenchError: if it is not what a run writes.
        OSError: if it cannot be read.
    """
    path = folder / "environment.json"
    if not path.exists() and not path.is_symlink():
        return {}
    return environment_in(reading.json_of(path))


def environment_in(values: Any) -> dict[str, Any]:
    """The values of an ``environment.json``.

    Raises:
        ClbenchError: if they are not what a run writes.
    """
    reading.fit(_Environment, values, "environment.json")
    return dict(values)


def sweep_of(path: Path) -> dict[str, Any]:
    """What is in one of the files ``sweep-*.json``.

    Raises:
        ClbenchError: if it is no sweep.
        OSError: if it cannot be read.
    """
    return sweep_in(reading.json_of(path), path.name)


def sweep_in(values: Any, name: str) -> dict[str, Any]:
    """The values of a file ``sweep-*.json``.

    Raises:
        ClbenchError: if it is no sweep.
    """
    reading.fit(_Sweep, values, name)
    return dict(values)
