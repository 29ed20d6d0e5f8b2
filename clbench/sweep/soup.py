"""Soups: the mean of the weights that several finished runs have shown, without training.

[0] Wortsman et al., *Model soups: averaging weights of multiple fine-tuned models improves accuracy
    without increasing inference time*: the uniform soup, and Recipe 1, the greedy one.

The runs have stream, split, network and pretrained weights in common, and differ in methods,
settings or, where nothing of these is drawn by it, the seed. There is a soup of each task if all of
them kept all checkpoints, else of the last. The greedy soup takes up one run after the other, by
their validation accuracy, and keeps those with which it is higher. Test data decides nothing; the
oracle is the best on it, and there to compare with.

``sweep-soup.json`` in the folder of the first run is as :mod:`clbench.sweep.sweeping` has it; the
values of its rows are the names of the runs' folders, ``uniform`` and ``greedy``, and
``ingredients`` are the runs in the greedy soup, in order. Without ``--greedy`` nothing is picked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clbench.errors import ClbenchError
from clbench.files.disk import to_json, write_atomic, writing_to
from clbench.record import checkpoints
from clbench.record.record import SHARED_TITLES, TITLES, Record, Scenario
from clbench.record.same_run import settings
from clbench.runner.folder import plain, recipe_of
from clbench.runner.identity import IDENTITY, state_of
from clbench.runner.screen import percent
from clbench.sweep.finished import finished_record
from clbench.sweep.redeploy import Redeployment, refuse_classifiers
from clbench.sweep.sweeping import Row, best, row_of
from clbench.sweep.view import pair
from clbench.weights import State, same_keys

#: Of its file, without ending.
NAME = "sweep-soup"


def uniform(models: Sequence[State]) -> State:
    """The mean of the weights of some models [0].

    Args:
        models: at least one; state dicts of one network.

    Returns:
        New weights. Running statistics are averaged along; counters are those of the first.

    Raises:
        ValueError: if there are none, or names differ.
    """
    if not models:
        raise ValueError("a soup needs a model")
    for model in models[1:]:
        same_keys(models[0], model)
    return {
        name: torch.stack([m[name] for m in models]).mean(0) if x.is_floating_point() else x.clone()
        for name, x in models[0].items()
    }


def greedy(
    models: Sequence[State], scores: Sequence[float], score: Callable[[State], float]
) -> list[int]:
    """Which models make the greedy soup [0, Recipe 1].

    Args:
        models: state dicts of one network.
        scores: of each, on held-out data; the highest come first, of equals the earlier.
        score: the same of other weights.

    Returns:
        Indices in the order in which they were taken up: each made the score higher.
    """
    order = sorted(range(len(models)), key=lambda i: -scores[i])
    taken, high = order[:1], scores[order[0]]
    for one in order[1:]:
        tried = score(uniform([models[i] for i in (*taken, one)]))
        if tried > high:
            taken, high = [*taken, one], tried
    return taken


@dataclass(frozen=True)
class Soup:
    """A soup, as in its JSON file; see the module and :class:`clbench.sweep.sweeping.Sweep`."""

    run: str
    by: Scenario
    names: list[str]
    rows: list[Row]
    chosen: int | None
    oracle: int
    reproduced: bool
    ingredients: list[str] | None
    shared_labels: bool

    def as_json(self) -> dict[str, Any]:
        """What the file holds: rows have their names as values."""
        told = asdict(self) | {"parameter": "soup", "method": "soup", "anchor": None}
        for name, row in zip(told.pop("names"), told["rows"], strict=True):
            row["value"] = name
        return told | {"own": told["rows"][0]}


def soup(
    folders: Sequence[Path | str], picks: bool = False, by: Scenario = "task_incremental"
) -> Soup:
    """Average the weights of finished runs, measure them, and write the JSON file.

    Args:
        folders: of at least two runs; the file goes into the first.
        picks: whether there is a greedy soup, too.
        by: the scenario whose validation accuracy it goes by.

    Raises:
        ClbenchError: if the runs cannot be averaged, with the reason and the way out.
    """
    records = [_finished(Path(folder)) for folder in folders]
    _refuse_others(records)
    first, names = records[0], _names(records)
    numbers = _numbers(records)
    shown = {n: [_shown(record, n) for record in records] for n in numbers}
    _refuse_shapes(records, shown[numbers[-1]])
    single = [row_of(record, None) for record in records]
    if picks and any(row.validation is None for row in single):
        raise ClbenchError(
            "--greedy goes by validation accuracy, and nothing was held out (stream.validation: "
            "0): leave it out, or run with stream.validation above 0"
        )
    redeployment = Redeployment(recipe_of(first.folder), first, numbers)

    def measured(taken: Sequence[int]) -> Row:
        weights = {n: uniform([models[i] for i in taken]) for n, models in shown.items()}
        return row_of(redeployment.of_weights(weights, len(taken) > 1), None)

    rows, ingredients = [*single, measured(range(len(records)))], None
    if picks:
        models = shown[numbers[-1]]
        scores = [row.validation[by] for row in single if row.validation]
        taken = greedy(models, scores, lambda theta: redeployment.validation(theta, by))
        ingredients = [names[i] for i in taken]
        rows.append(measured(taken))
    again = measured([0])
    done = Soup(
        run=first.run.title,
        by=by,
        names=[*names, "uniform", *["greedy"] * picks],
        rows=rows,
        chosen=len(rows) - 1 if picks else None,
        oracle=best([row.overall_performance[by] for row in rows], range(len(rows)), None),
        reproduced=again.overall_performance == rows[0].overall_performance,
        ingredients=ingredients,
        shared_labels=first.run.shared_labels,
    )
    with writing_to(first.folder, "make the soup again"):
        write_atomic(first.folder / f"{NAME}.json", to_json(done.as_json(), indent=1))
    return done


def _finished(folder: Path) -> Record:
    record = finished_record(folder)
    refuse_classifiers(list(recipe_of(record.folder).methods.values()), record.folder)
    if record.run.independent:
        raise ClbenchError(f"{folder} has a network for each task, of which there is no soup")
    if not checkpoints.numbers(record.folder):
        raise ClbenchError(
            f"{folder} keeps no weights (checkpoints: none): run again with checkpoints: last"
        )
    return record


def _refuse_others(records: Sequence[Record]) -> None:
    """Refuse runs whose weights have no mean that is of any use."""
    if len({record.folder.resolve() for record in records}) < max(2, len(records)):
        raise ClbenchError("a soup is of two runs or more, each named once")
    wanted = _about(records[0])
    for record in records[1:]:
        found = _about(record)
        for what in wanted | found:
            if wanted.get(what) != found.get(what):
                raise ClbenchError(
                    f"{record.folder} has not the {what} of {records[0].folder}: a soup is of runs "
                    "of one stream, split, network and pretrained weights (with weights: pretrain, "
                    "which follow from the seed, of one seed)"
                )


def _about(record: Record) -> dict[str, Any]:
    """What the runs of a soup have in common."""
    run, recipe = record.run, recipe_of(record.folder)
    told = dict(run) | {"pretrained_sha256": run.weights.sha256}
    named = {what: told[key] for key, what in IDENTITY.items()}
    sections = settings(plain(recipe), ("free", "place", "placement", "repeats"))
    own = {key: x for key, x in sections.items() if key.startswith(("stream.", "images."))}
    network = {"model.backbone": run.backbone, "model.options": run.options}
    return {"stream": run.stream} | named | network | own


def _refuse_shapes(records: Sequence[Record], models: Sequence[State]) -> None:
    """Refuse weights of other names or shapes, as methods can add some."""
    shapes = [{name: x.shape for name, x in model.items()} for model in models]
    for record, own in zip(records, shapes, strict=True):
        if own != shapes[0]:
            raise ClbenchError(
                f"{record.folder} has other weights than {records[0].folder}, as methods added to "
                "the network: a soup is of runs with the same ones"
            )


def _names(records: Sequence[Record]) -> list[str]:
    """The runs' folders, by as much of their paths as tells them apart."""
    paths = [record.folder.resolve().parts for record in records]
    length = next(n for n in range(1, 99) if len({p[-n:] for p in paths}) == len(paths))
    return ["/".join(path[-length:])[-100:] for path in paths]


def _numbers(records: Sequence[Record]) -> list[int]:
    """The tasks whose soups are made, from 1: all, or the last."""
    every = list(range(1, len(records[0].tasks) + 1))
    kept = [checkpoints.numbers(record.folder) for record in records]
    return every if all(numbers == every for numbers in kept) else kept[0][-1:]


def _shown(record: Record, number: int) -> State:
    last = checkpoints.numbers(record.folder)[-1]
    state: State = state_of(record.folder, min(number, last), ("shown",), set())["shown"]
    return state


def show(made: Soup, folder: Path, console: Console | None = None) -> None:
    """Print the table of a soup, and where its file is."""
    console = console or Console(soft_wrap=True)
    scenarios = SHARED_TITLES if made.shared_labels else TITLES
    title = f"Soups, in % ({' / '.join(scenarios.values())})"
    table = Table(title=title, title_justify="left")
    for column in ("weights", "validation", "OP", "BWT", "retention", ""):
        table.add_column(column, justify="left" if column in ("weights", "") else "right")
    for number, (name, row) in enumerate(zip(made.names, made.rows, strict=True)):
        marks = {"pick": made.chosen, "oracle": made.oracle}
        table.add_row(
            escape(name),
            *(pair(scenarios, x) for x in (row.validation, row.overall_performance)),
            pair(scenarios, row.backward_transfer, signed=True),
            percent(row.retention),
            ", ".join(label for label, place in marks.items() if place == number),
        )
    console.print(table)
    if made.ingredients:
        console.print(f"In the greedy soup: {escape(', '.join(made.ingredients))}.")
    if not made.reproduced:
        console.print(
            "[bold red]WARNING: the first run's weights do not have their recorded OP here: other "
            "hardware or versions?"
        )
    console.print(f"File in {escape(str(folder))}:\n  {NAME}.json", highlight=False)
