"""From the lines of ``record.jsonl``, of any version there has been, to events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from clbench.errors import ClbenchError
from clbench.record.events import KINDS, VERSION, Event, OtherEvent
from clbench.record.reading import no_number, once


def events(path: Path, content: bytes) -> Iterator[Event]:
    """The events of a record, in an order in which a run writes them.

    A last line that a crash left unfinished is passed over.

    Args:
        path: the file, as messages name it.
        content: what is in it.

    Raises:
        ClbenchError: if a line is damaged, or is not what a run writes.
    """
    tasks = list[Any]()
    ended = False
    version = 0
    for number, values, text in _lines(path, content):
        kind = values["event"]
        if kind == "task":
            if type(values.get("task")) is not int or values["task"] in tasks:
                _damaged(path, number, f"task {values.get('task')!r:.60} twice, or no task")
            tasks.append(values["task"])
        if (kind == "run") != (number == 1) or ended:
            _damaged(path, number, f"{kind!r:.60} out of its place")
        ended = kind == "end"
        version = _version(values, str(path)) if number == 1 else version
        # What goes on with an old record writes lines of today to it: those stay as they are.
        values = values if version == VERSION else _upgraded(values)
        yield KINDS.get(kind, OtherEvent).read(values, text, f"{path}, line {number} ({kind:.20})")


def _lines(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any], str]]:
    """The lines of a record with their numbers, from 1: their values, and themselves."""
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        last = number == len(lines)  # whole lines end in a newline, so nothing follows them
        if last and not line:
            return
        try:
            text = line.decode()
            values = json.loads(text, parse_constant=no_number, object_pairs_hook=once)
        except (ValueError, RecursionError) as error:
            if last:
                return  # the run was killed while it wrote this line
            _damaged(path, number, str(error) if line.strip() else "an empty line")
        if not isinstance(values, dict) or not isinstance(values.get("event"), str):
            _damaged(path, number, "no event")
        yield number, values, text + "\n"


def _damaged(path: Path, number: int, reason: str) -> NoReturn:
    raise ClbenchError(
        f"{path}, line {number}, is damaged ({' '.join(reason.split())}): put the file back from "
        "a copy, or run again into another folder"
    )


def _version(values: Mapping[str, Any], where: str) -> int:
    """The version of the record that begins with ``values``.

    Raises:
        ClbenchError: if it is one that this clbench does not know.
    """
    version = values.get("version", 0)
    if type(version) is not int or version < 0:
        raise ClbenchError(f"{where}: version = {version!r:.60}: it should be a whole number")
    if version > VERSION:
        raise ClbenchError(
            f"{where} is of version {str(version)[:20]}, and this clbench reads records up to "
            f"version {VERSION}: update clbench"
        )
    return version


#: What records of version 0 may lack, and what that means.
_UNTOLD: dict[str, dict[str, Any]] = {
    "run": {
        "version": 0,
        "options": {},
        "size": None,
        "split_manifest_sha256": None,
        "retention_images_sha256": None,
        "shared_labels": False,
        "test_on": None,
        "train_logits": None,
        "warnings": [],
        "recipe": None,
    },
    "task": {
        "validation": None,
        "remarks": [],
        "distance": {},
        "distance_over": "all",
        "modes": None,
        "loss": None,
        "processes": None,
        "parts": {},
    },
}


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """A line of version 0 as it would be today; one that is so already stays."""
    kind = values["event"]
    values = _UNTOLD.get(kind, {}) | values
    if kind == "run":
        weights = values.get("weights") or {}
        if isinstance(weights, dict):
            values["weights"] = {"source": None, "sha256": None} | weights
        values["options"] = {} if values["options"] is None else values["options"]
    elif kind == "task":
        values = _in_a_row(values)
        values["validation"] = _in_a_row(values["validation"])
        if isinstance(values.get("curve"), list):
            values["curve"] = [_in_a_row(point) for point in values["curve"]]
    return values


def _in_a_row(measured: Any) -> Any:
    """Version 0 listed all tasks that were evaluated."""
    known = measured.get("evaluated") if isinstance(measured, dict) else None
    if not isinstance(known, list) or not known or type(known[0]) is not int:
        return measured
    if known != list(range(known[0], known[0] + len(known))):
        raise ClbenchError(f"record.jsonl has accuracies of tasks {str(known)[:60]}, out of order")
    return {k: v for k, v in measured.items() if k != "evaluated"} | {"first": known[0]}
