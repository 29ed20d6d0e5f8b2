"""Post-hoc methods laid on a finished run: the rows that runs with them would be, untrained.

One training has as many rows as there are ways to merge, average, align and classify. A row is the
run's own methods with others behind them, measured after every task as a run measures: on all tasks
so far, on the validation parts, for retention. It lies in ``posthoc/ROW`` in the run folder, with
``record.jsonl``, ``config.yaml``, ``environment.json`` and ``summary.json``, so that reports over
the run folder have it beside the run. ``laid_on`` in its record names the run that was trained: its
steps and samples are no cost of the row, whose seconds and FLOPs are those of what is done here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError
from clbench.files.disk import refuse_links, to_json, write_atomic, writing_to
from clbench.methods.posthoc import needs_training
from clbench.methods.statements import traits
from clbench.models import finite
from clbench.recipe.merging import put_on
from clbench.recipe.recipe import Recipe, parse
from clbench.record import checkpoints
from clbench.record.baselines import PLAIN
from clbench.record.events import VERSION, Event, PretrainedEvent, RunEvent
from clbench.record.record import Record
from clbench.runner.folder import plain, recipe_of
from clbench.runner.products import SUMMARY
from clbench.sweep.finished import finished_record
from clbench.sweep.laying import LaidRow, Laying
from clbench.sweep.redeploy import Redeployment
from clbench.text.names import wrong_name
from clbench.text.numbers import counted
from clbench.text.yamltext import dump

FOLDER = "posthoc"
CONFIG, ENVIRONMENT = "config.yaml", "environment.json"


def lay(
    folder: Path | str,
    rows: Mapping[str, Mapping[str, Any]],
    told: Callable[[str], None] = lambda line: None,
) -> tuple[Record, list[Record], dict[str, str]]:
    """Lay rows of post-hoc methods on a finished run, and write a folder for each.

    Args:
        folder: the run folder, with the checkpoints of every task.
        rows: by name, settings of methods by their names, as in a recipe. One without methods is
            the run itself, and passed over.
        told: is given a line when a task is through.

    Returns:
        The run's record, that of each row, and by name why rows have none: what is refused, as it
        needs training, say, or could not be made costs no other row anything.

    Raises:
        ClbenchError: if the run cannot be used, or no row is left, before anything is read.
    """
    record = finished_record(folder)
    recipe = recipe_of(record.folder)
    laid, refused = list[LaidRow](), dict[str, ClbenchError]()
    for name, settings in rows.items():
        try:
            row = _row(recipe, str(name), settings or {})
        except ClbenchError as error:
            refused[str(name)] = error
        else:
            laid += [row] if row.names else []
    if not laid and refused:
        raise next(iter(refused.values()))
    if not laid:
        raise ClbenchError("there is no row with a method to lay on the run")
    _refuse_partial(record, recipe)
    for reason in refused.values():
        told(f"Left out: {reason}")
    place = record.folder / FOLDER
    for one in (place, *(place / row.name for row in laid)):
        if one.exists():
            refuse_links(one)
    laying = Laying(Redeployment(recipe, record, checkpoints.numbers(record.folder)))
    last = {method.last_trained for row in laid for method in row.added}
    for number, event in enumerate(record.tasks, 1):
        laying.take_up(number, event, {n for n in last if n})
        for row in laid:
            if row.failure:
                continue
            try:
                row.events.append(laying.measure(row))
            except ClbenchError as error:
                row.failure = f"task {event.name}: {error}"
        measured = counted(len(laid), "row")
        told(f"task {number}/{len(record.tasks)} ({event.name}): {measured} measured")
    failed = {name: str(error).removeprefix(f"{name}: ") for name, error in refused.items()}
    failed |= {row.name: row.failure for row in laid if row.failure}
    return record, [_written(record, row) for row in laid if not row.failure], failed


def _row(recipe: Recipe, name: str, settings: Mapping[str, Any]) -> LaidRow:
    """A row, unless it needs training."""
    if not isinstance(settings, Mapping):
        raise ClbenchError(f"{name} must map names of methods to their settings")
    if wrong := wrong_name(name):
        raise ClbenchError(f"the row {name!r:.80} {wrong}")
    values = plain(recipe)
    values["methods"].pop(PLAIN, None)
    own = values["methods"]
    if twice := [method for method in settings if method in own]:
        raise ClbenchError(
            f"{name}: the run was trained with {twice[0]}, which cannot be laid on it again: leave "
            "it out, or sweep over its fields"
        )
    before = "".join(f"{method}+" for method in own)
    values["name"] = f"{before}{name}, post hoc-seed{recipe.seed}"
    more = {method: fields for method, fields in settings.items() if method != PLAIN}
    try:
        changed = parse(put_on(values, {"methods": more}) if more else values)
    except ClbenchError as error:
        raise ClbenchError(f"{name}: {error}") from error
    for method in more:
        if reason := needs_training(method, changed.methods[method]):
            raise ClbenchError(
                f"{name}: {reason}, so a finished run cannot tell what it does: train with "
                "it, or leave the row out"
            )
    return LaidRow(name, changed, list(more))


def _refuse_partial(record: Record, recipe: Recipe) -> None:
    """Refuse a run that has not the weights of every task."""
    if checkpoints.numbers(record.folder) != list(range(1, len(record.tasks) + 1)):
        raise ClbenchError(
            f"{record.folder} has not the weights of every task (checkpoints: "
            f"{recipe.checkpoints}), after each of which a row is measured: run again with "
            "checkpoints: all"
        )


def _written(record: Record, row: LaidRow) -> Record:
    """The record of a row, which is in its folder with what reports read beside it."""
    place = record.folder / FOLDER / row.name
    run, methods = record.run, row.recipe.methods
    about = RunEvent.made(
        **run.model_dump(exclude=set(run.model_extra or ()))
        | {
            "version": VERSION,
            "title": row.recipe.title,
            "methods": {n: finite.written(m.model_dump(mode="json")) for n, m in methods.items()},
            "traits": {name: traits(method) for name, method in methods.items()},
            "recipe": dump(plain(row.recipe)),
            "laid_on": run.title,
        }
    )
    start = [event for event in record.events if isinstance(event, PretrainedEvent)]
    events: tuple[Event, ...] = (about, *start, *row.events)
    made = Record(place, events).ended()
    with writing_to(record.folder, "sweep again"):
        place.mkdir(parents=True, exist_ok=True)
        write_atomic(place / CONFIG, dump(plain(row.recipe)))
        if (record.folder / ENVIRONMENT).is_file():
            shutil.copyfile(record.folder / ENVIRONMENT, place / ENVIRONMENT)
        write_atomic(place / "record.jsonl", "".join(event.text for event in made.events))
        write_atomic(place / SUMMARY, to_json(made.summary(), indent=1))
    return made
