"""Sweeps that cost no training: what a finished run would have shown with another α, λ or density.

Methods that only change the weights to evaluate (`deploy`) are taken through the run's checkpoints
again, with other settings. Each row is what the run would have recorded with that setting:

* ``alpha``: of ``wise_ft``, put at the end of the methods if the run has none: α = 1 shows the
  trained weights, α = 0 the anchor's (rows of the head that it never learned stay trained);
* ``scale``: λ of ``task_arithmetic`` or ``ties``; ``density``: of ``ties``; and whatever else a
  method says of itself that it lets vary (``swept``).

Averaged weights get their BatchNorm statistics by the recipe's ``model.batch_norm``, as in the run;
the ends α = 0 and α = 1 of a run that averages nothing are left as they are.

The pick is the best mean validation accuracy after the last task, in one scenario; among equals the
value nearest to the run's own, then the first. Test data and retention never decide it. The oracle
is the best test accuracy by the same rules, and only there to compare with.

``sweep-<parameter>.json`` (``sweep-alpha-previous.json`` where θ_o is the anchor) in the run
folder holds, with accuracies as fractions in 0…1::

    {"run": "split_digits-sequential-seed0",    the run's name
     "parameter": "alpha",                      what was varied
     "method": "wise_ft",                       whose field it is
     "anchor": "pretrained",                    or previous; null if the method has none
     "by": "task_incremental",                  the scenario that picks
     "rows": [{"value": 0.0,
               "validation": {scenario: mean accuracy} or null (nothing was held out),
               "overall_performance": {scenario: OP},
               "backward_transfer": {scenario: BWT or null},
               "retention": top-1 after the last task, or null}, …],
     "chosen": index of the pick, or null without validation data,
     "oracle": index of the best on test,
     "own": {…} a row as the run recorded it; its value is null if no value stands for the run,
     "reproduced": whether the row of the run's own value has the same OP, or null without one,
     "pretrained_retention": top-1, or null}

BWT is null where only the last task's weights were kept (``checkpoints: last``), for a single task
and for independent tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from clbench.errors import ClbenchError
from clbench.files.disk import to_json, write_atomic, writing_to
from clbench.methods import METHODS
from clbench.methods.base import overriding
from clbench.methods.statements import Swept
from clbench.recipe.merging import put_on
from clbench.recipe.recipe import Recipe, parse
from clbench.record import checkpoints, scores
from clbench.record.baselines import PLAIN
from clbench.record.record import SCENARIOS, SHARED_TITLES, TITLES, Record, Scenario
from clbench.runner.folder import plain, recipe_of
from clbench.sweep.finished import finished_record
from clbench.sweep.redeploy import Redeployment, looks_back
from clbench.sweep.values import parameters


@dataclass(frozen=True)
class Row:
    """What one value gives; see the module."""

    value: float | None
    validation: dict[str, float] | None
    overall_performance: dict[str, float]
    backward_transfer: dict[str, float | None]
    retention: float | None


@dataclass(frozen=True)
class Sweep:
    """A sweep, as in its JSON file; see the module."""

    run: str
    parameter: str
    method: str
    anchor: str | None
    by: Scenario
    rows: list[Row]
    chosen: int | None
    oracle: int
    own: Row
    reproduced: bool | None
    pretrained_retention: float | None
    shared_labels: bool = False

    @property
    def scenarios(self) -> dict[Scenario, str]:
        """The accuracies that differ, with their titles, as :attr:`Record.scenarios`."""
        return SHARED_TITLES if self.shared_labels else TITLES

    @property
    def name(self) -> str:
        """Of its files, without ending."""
        return f"sweep-{self.parameter}" + ("-previous" if self.anchor == "previous" else "")


def sweep(
    folder: Path | str,
    parameter: str,
    values: Sequence[float],
    by: Scenario = "task_incremental",
    anchor: str | None = None,
) -> Sweep:
    """Evaluate a finished run with other values of a parameter, and write the JSON file.

    Args:
        folder: the run folder, with its checkpoints.
        parameter: a key of :func:`~clbench.sweep.values.parameters`.
        values: at least one.
        by: the scenario whose validation accuracy picks.
        anchor: ``pretrained`` or ``previous``, of a method that has one; default: as in the run,
            or pretrained.

    Raises:
        ClbenchError: if the run cannot be swept, with the reason and the way out.
    """
    record = finished_record(folder)
    recipe = recipe_of(record.folder)
    method = _method(recipe, parameter, record.folder)
    rules = METHODS[method].swept[parameter]
    if anchor and "anchor" not in METHODS[method].model_fields:
        raise ClbenchError(f"{method} has no anchor, so {parameter} is swept without: leave it out")
    recipes = [_changed(recipe, method, parameter, value, anchor) for value in values]
    anchor = getattr(recipes[0].methods[method], "anchor", None)
    own = _own(recipe, method, parameter, anchor)
    redeployment = Redeployment(recipe, record, _numbers(record, recipes[0], method, rules))
    averages = recipe.ema > 0 or any(m.averages for m in recipe.methods.values())
    rows = []
    for value, changed in zip(values, recipes, strict=True):
        refresh = averages or value not in rules.pure
        rows.append(row_of(redeployment.measure(changed, refresh), value))
    recorded = row_of(record, own)
    same = [row for row in rows if row.value == own]
    validation = [row.validation[by] for row in rows if row.validation]
    done = Sweep(
        run=record.run.title,
        parameter=parameter,
        method=method,
        anchor=anchor,
        by=by,
        rows=rows,
        chosen=best(validation, values, own) if validation else None,
        oracle=best([row.overall_performance[by] for row in rows], values, own),
        own=recorded,
        reproduced=same[0].overall_performance == recorded.overall_performance if same else None,
        pretrained_retention=record.summary()["retention"]["pretrained"],
        shared_labels=record.run.shared_labels,
    )
    with writing_to(record.folder, "sweep again"):
        write_atomic(record.folder / f"{done.name}.json", to_json(asdict(done), indent=1))
    return done


def _method(recipe: Recipe, parameter: str, folder: Path) -> str:
    """The method whose field is swept: one of the run's, or else one that can be added to it."""
    known = parameters()[parameter]
    for name in known:
        if name in recipe.methods:
            if reason := recipe.methods[name].needs_training:
                raise ClbenchError(f"{folder}: {name}: {reason}")
            return name
    for name in known:
        if METHODS[name].swept[parameter].neutral is not None:
            return name
    raise ClbenchError(
        f"{folder} was run without {' or '.join(known)}, so there is no {parameter} to sweep: its "
        f"tasks must be trained for it; run again with methods: {{{known[0]}: {{}}}}"
    )


def _changed(
    recipe: Recipe, method: str, parameter: str, value: float, anchor: str | None
) -> Recipe:
    """The recipe with another value, for all tasks; refused as any recipe would be."""
    base = plain(recipe)
    base["methods"].pop(PLAIN, None)
    fields = {parameter: value} | ({"anchor": anchor} if anchor else {})
    return parse(put_on(base, {"methods": {method: fields}}))


def _own(recipe: Recipe, method: str, parameter: str, anchor: str | None) -> float | None:
    """The value that stands for the run as it was; None if there is none."""
    neutral = METHODS[method].swept[parameter].neutral
    if method not in recipe.methods:
        return neutral
    settings = recipe.methods[method]
    value: float | str = getattr(settings, parameter)
    if isinstance(value, str):  # scale: mean, another value after every task
        return None
    if any(getattr(recipe.for_task(task).methods[method], parameter) != value
           for task in recipe.per_task):  # fmt: skip
        return None
    unlike = value != neutral and getattr(settings, "anchor", None) != anchor
    return None if unlike else value


def _numbers(record: Record, recipe: Recipe, method: str, rules: Swept) -> list[int]:
    """The tasks whose weights are there, all or the last."""
    count, folder = len(record.tasks), record.folder
    found = checkpoints.numbers(folder)
    if found == list(range(1, count + 1)):
        return found
    if found[-1:] != [count]:
        raise ClbenchError(
            f"{folder} keeps no weights to sweep over (checkpoints: {recipe.checkpoints}): run "
            "again with checkpoints: last, or all for every task"
        )
    names = list(recipe.methods)
    merging = [name for name in names if overriding([recipe.methods[name]], "absorb")]
    reason = ""
    if record.run.independent:
        reason = "independent tasks have a model each"
    elif rules.every:
        reason = rules.every
    elif setting := looks_back(list(recipe.methods.values())):
        reason = f"{setting} needs the weights before the last task"
    elif merging and names.index(method) < names.index(merging[0]):
        reason = f"{merging[0]} takes up what {method} gives for every task"
    if reason:
        raise ClbenchError(
            f"{folder} keeps the weights of the last task alone (checkpoints: "
            f"{recipe.checkpoints}), but {reason}: run again with checkpoints: all"
        )
    return [count]


def row_of(record: Record, value: float | None) -> Row:
    """The numbers of a record, which may lack tasks before the last."""
    independent, last = record.run.independent, record.tasks[-1]
    performance: dict[str, float] = {}
    transfer: dict[str, float | None] = {}
    for scenario in SCENARIOS:
        matrix = record.accuracy_matrix(scenario)
        diagonal = np.diag(matrix)
        whole = not independent and not np.isnan(diagonal).any()
        performance[scenario] = float((diagonal if independent else matrix[-1]).mean())
        transfer[scenario] = scores.backward_transfer(matrix) if whole else None
    tasks = record.tasks if independent else (last,)
    held_out = [event.validation for event in tasks if event.validation]
    validation: dict[str, float] | None = None
    if len(held_out) == len(tasks):
        validation = {s: float(np.mean([x for part in held_out for x in part.of(s)]))
                      for s in SCENARIOS}  # fmt: skip
    retention = last.retention.top1 if last.retention else None
    return Row(value, validation, performance, transfer, retention)


def best(accuracies: Sequence[float], values: Sequence[float], own: float | None) -> int:
    """Where the best accuracy is; among equals nearest to ``own``, then first."""
    nearest = [0.0 if own is None else abs(value - own) for value in values]
    return min(range(len(values)), key=lambda i: (-accuracies[i], nearest[i], i))
