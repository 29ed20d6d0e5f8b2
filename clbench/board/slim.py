"""Runs with nothing left but what boards need, so that thousands fit into memory.

What is dropped (curves, matrices, lines as they were read) stands on the run's own page.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from clbench.record.events import Event, RunEvent, TaskEvent
from clbench.record.record import SCENARIOS, Record
from clbench.report.gather import Run

_Line = TypeVar("_Line", RunEvent, TaskEvent)
#: Fields of a task that no board asks for.
_TASK: Mapping[str, Any] = {
    "curve": [],
    "methods": {},
    "remarks": [],
    "distance": {},
    "parts": {},
    "representation": {},
    "ahead": None,
    "validation": None,
    "footprint": {},
}


def slim(run: Run, called: str, known: dict[str, Any]) -> Run:
    """The run as boards need it.

    Args:
        run: as it was read.
        called: its name in warnings.
        known: values that were met before, by what they are; equal ones are kept once.
    """
    events = tuple(map(_slim_event, run.record.events))
    summary = dict(run.summary)
    for scenario in SCENARIOS:
        scores = summary[scenario]
        summary[scenario] = {k: v for k, v in scores.items() if k != "accuracy_matrix"}
    environment = known.setdefault(f"environment {run.environment!r}", run.environment)
    recipe = _once(run.recipe, known)
    made = replace(
        run,
        folder=Path(called),
        record=Record(Path(called), events),
        summary=summary,
        recipe=recipe,
        environment=environment,
        sweeps={},
    )
    # Worked out here, once, with values that are shared.
    made.__dict__["settings"] = {sys.intern(k): _once(v, known) for k, v in run.settings.items()}
    return made


def _slim_event(event: Event) -> Event:
    if isinstance(event, TaskEvent):
        return _without_text(event.model_copy(update=dict(_TASK)))
    if isinstance(event, RunEvent):
        return _without_text(event.model_copy(update={"recipe": None}))
    return event


def _without_text(event: _Line) -> _Line:
    event._text = ""
    return event


def _once(value: Any, known: dict[str, Any]) -> Any:
    """The value made of texts that are kept once each."""
    if isinstance(value, str):
        return known.setdefault(value, value)
    if isinstance(value, Mapping):
        return {_once(key, known): _once(inner, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [_once(inner, known) for inner in value]
    return value
