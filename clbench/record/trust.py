"""What a run folder must hold to be reported; checked before any of it is computed with.

Records are made by runs, but a report may be given anybody's. What is out of range here would
bring down a table or a figure later, ask for any amount of memory, or be nonsense in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from clbench.errors import ClbenchError
from clbench.record import reading
from clbench.record.record import SCENARIOS, Event, Record
from clbench.text.texts import one_line

#: More tasks would make matrices of any size; ImageNet-21k in tasks of ten classes fits.
TASKS = 2_200
#: A run that is to be gone on with may have a record so many times as large as one in a report:
#: it is probably one's own, and there is only one of it.
OWN = 8

Text = Annotated[str, StringConstraints(max_length=10_000)]
Accuracy = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e18, le=1e18, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Index = Annotated[int, Field(ge=0, lt=TASKS)]
ByScenario = Mapping[Literal["task_incremental", "class_incremental"], Number | None]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Weights(_Shape):
    source: Text | None = None
    sha256: Text | None = None


class _Run(_Shape):
    title: Text
    stream: Text
    methods: dict[Text, Any]
    seed: Annotated[int, Field(gt=-(2**63), lt=2**63)]
    backbone: Text
    options: dict[Text, Any] | None = None
    size: Count | None = None
    weights: _Weights | None = None
    split_manifest_sha256: Text | None = None
    tasks: Annotated[list[Text], Field(min_length=1, max_length=TASKS)]
    class_names: list[Text]
    independent: bool
    test_on: Text | None = None
    train_logits: Text | None = None
    shared_labels: bool = False
    test_images: list[Annotated[int, Field(ge=1, le=10**15)]] | None = None
    parameters: Count


class _Retention(_Shape):
    top1: Accuracy
    top5: Accuracy


class _Measured(_Shape):
    evaluated: list[Index]
    task_incremental: list[Accuracy]
    class_incremental: list[Accuracy]


class _Point(_Measured):
    step: Count


class _Footprint(_Shape):
    past_data: bool
    stored_samples: Amount
    stored_bytes: Amount
    weight_copies: Amount
    extra_passes_per_step: Amount
    time_share: Amount


class _Activity(_Shape):
    active: Number = 1
    scope: Number | None = None


class _Remark(_Shape):
    method: Annotated[str, StringConstraints(max_length=100)]
    what: Annotated[str, StringConstraints(max_length=200)]
    detail: Text


class _Task(_Measured):
    task: Index
    last_step: Count
    retention: _Retention | None
    ahead: _Measured | None = None
    curve: list[_Point]
    methods: dict[Text, _Activity]
    remarks: Annotated[list[_Remark], Field(max_length=100)] = []
    footprint: dict[Text, _Footprint]
    samples: Count
    seconds: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
    peak_memory_bytes: Count


class _Pretrained(_Shape):
    retention: _Retention | None
    ahead: _Measured | None = None


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


_SHAPES: dict[str, type[_Shape]] = {"run": _Run, "pretrained": _Pretrained, "task": _Task}


def record_of(folder: Path, times: int = 1) -> Record:
    """The record of a folder, checked.

    Args:
        folder: of the run.
        times: how often the usual bounds it may have.

    Raises:
        ClbenchError: if there is none that a run can have written, in half a line.
        OSError: if it cannot be read.
    """
    reading.check(folder / "record.jsonl", times)
    try:
        record = Record.load(folder)
    except (RecursionError, ValueError, TypeError) as error:
        raise ClbenchError(f"record.jsonl is no record ({type(error).__name__})") from error
    check(record)
    return record


def whole(folder: Path) -> Record:
    """The record of a folder that is to be gone on with; its recipe is seen to be one too.

    Raises:
        ClbenchError: if one of them is not what a run writes, in one line.
    """
    if not (folder / "record.jsonl").exists():
        return Record.load(folder)  # says that there is none
    try:
        if not recipe_of(folder):
            raise ClbenchError("there is no config.yaml in it, or an empty one")
        record = record_of(folder, OWN)
    except ClbenchError as error:
        raise ClbenchError(one_line(f"{folder} cannot be gone on with: {error}")) from error
    except OSError as error:
        name = Path(str(error.filename or "")).name
        told = f"{folder} cannot be read: {name}: {error.strerror}"
        raise ClbenchError(one_line(told)) from error
    return record


def check(record: Record) -> None:
    """See that a record is one that a run can have written.

    Raises:
        ClbenchError: if it is not, naming the event, the field, the value and the reason.
    """
    for number, event in enumerate(record.events, 1):
        kind = event.get("event") if isinstance(event, dict) else None
        if not isinstance(kind, str):
            raise ClbenchError(f"line {number} of record.jsonl is no event")
        if kind in _SHAPES:
            _fits(_SHAPES[kind], event, f"line {number} of record.jsonl ({kind})")
        if kind == "run":
            reading.tame([event["methods"], event.get("options")], "record.jsonl")
    kinds = [event["event"] for event in record.events]
    if not kinds:
        return  # just begun
    if kinds.count("run") != 1 or kinds.count("pretrained") > 1 or kinds[0] != "run":
        raise ClbenchError("record.jsonl must have one event run, first, and one pretrained")
    if "pretrained" not in kinds and len(kinds) > 1:
        raise ClbenchError("record.jsonl has no event pretrained")
    _tasks(record)


def _tasks(record: Record) -> None:
    """What must hold between the tasks and the rest."""
    count, tasks = len(record.run["tasks"]), record.tasks
    done = [event["task"] for event in tasks]
    sizes = record.run.get("test_images")
    if sizes is not None and len(sizes) != count:
        raise ClbenchError(f"record.jsonl has test images of {len(sizes)} tasks, of {count}")
    if len(set(done)) < len(done):
        raise ClbenchError(f"record.jsonl has task {_twice(done)} twice")
    if record.finished and count - 1 not in done:
        raise ClbenchError(f"record.jsonl ends without task {count - 1}, the last of {count}")
    pretrained: Event = next((e for e in record.events if e["event"] == "pretrained"), {})
    before = pretrained.get("retention")
    _ahead(pretrained, 0, count, "the event pretrained")
    for event in tasks:
        where = f"task {event['task']} in record.jsonl"
        for point in (event, *event["curve"]):
            lengths = {
                len(point[k]) for k in ("evaluated", "task_incremental", "class_incremental")
            }
            known = point["evaluated"]
            if len(lengths) > 1 or not known:
                raise ClbenchError(f"{where} has accuracies of other tasks than it evaluated")
            if max(known) >= count or len(set(known)) < len(known):
                raise ClbenchError(f"{where} evaluated tasks {str(known)[:60]} of {count}")
        _ahead(event, event["task"] + 1, count, where)
        if event["task"] >= count:
            raise ClbenchError(f"{where}: there are {count} tasks only")
        if (event["retention"] is None) != (before is None):
            raise ClbenchError(f"{where} and the event pretrained differ in whether they retain")
        lacking = record.run["methods"].keys() - event["methods"].keys()
        if lacking:
            raise ClbenchError(f"{where} says nothing of method {min(lacking)[:60]!r}")


def _ahead(event: Event, first: int, count: int, where: str) -> None:
    """Of the tasks to come, all are tested in order, or none."""
    part, wanted = event.get("ahead"), list(range(first, count))
    if part and any(part["evaluated"] != wanted or len(part[s]) != len(wanted) for s in SCENARIOS):
        raise ClbenchError(f"{where} has accuracies ahead of other tasks than are to come")


def recipe_of(folder: Path) -> dict[str, Any]:
    """The recipe in ``config.yaml``; empty if it was not copied along.

    Raises:
        ClbenchError: if it is no recipe that a run can have written.
        OSError: if it cannot be read.
    """
    path = folder / "config.yaml"
    if not path.exists() and not path.is_symlink():
        return {}
    values = reading.yaml_of(path)
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
    values = reading.json_of(path)
    _fits(_Environment, values, "environment.json")
    return dict(values)


def sweep_of(path: Path) -> dict[str, Any]:
    """What is in one of the files ``sweep-*.json``.

    Raises:
        ClbenchError: if it is no sweep.
        OSError: if it cannot be read.
    """
    values = reading.json_of(path)
    _fits(_Sweep, values, path.name)
    return dict(values)


def _fits(shape: type[_Shape], values: Any, name: str) -> None:
    try:
        shape.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"])
        value = "" if first["type"] == "missing" else f" = {_shown(first['input'])}"
        raise ClbenchError(f"{name}: {where}{value}: {first['msg']}") from error
    except RecursionError as error:
        raise ClbenchError(f"{name} is nested too deeply") from error


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return f"{'{…}' if isinstance(value, dict) else '[…]'} of {len(value)}"
    return f"{value!r:.60}"


def _twice(values: Iterable[int]) -> int:
    seen: set[int] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return -1
