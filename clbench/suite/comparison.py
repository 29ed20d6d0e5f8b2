"""``clbench compare``: run what a suite still lacks, then report on all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError
from clbench.files.disk import write_atomic
from clbench.files.lock import alone
from clbench.launch.choose import choose_launcher
from clbench.launch.local import Job, Launch, train_words
from clbench.recipe.addresses import addresses
from clbench.recipe.foreseen import stopped_by_scored
from clbench.record.record import Record
from clbench.report.build import build
from clbench.report.compare import Comparison
from clbench.report.compare import compare as compare_runs
from clbench.runner.folder import plain
from clbench.suite.done import Place, survey
from clbench.suite.missing import Inventory, skip
from clbench.suite.suite import Suite, load
from clbench.suite.tuning import Search, Tuning, as_values, score_of, try_of
from clbench.suite.watch import Watch
from clbench.text.numbers import counted
from clbench.text.yamltext import dump


def compare(
    suite: str | Path | Mapping[str, Any] | Suite,
    output: Path | str | None = None,
    jobs: int | None = None,
    report: Path | str | None = None,
    launcher: str = "local",
    slurm: Mapping[str, Any] | None = None,
    skip_missing: bool = False,
) -> Comparison:
    """Run a suite and report on it. Finished runs are reused, interrupted ones go on.

    Args:
        suite: a YAML file, its bare name in ``suites/``, its values, or what was read of them.
        output: folder of the runs, logs and the report; default: ``runs/<suite>``.
        jobs: runs side by side; default: 1, on SLURM as many as it has room for.
        report: folder of the report; default: ``report`` in ``output``.
        launcher: ``local`` or ``slurm``.
        slurm: what to ask of the cluster, as in ``{"partition": "gpu", "gpus": 1}``.
        skip_missing: leave out what lacks data or weights, and of independent data sets those
            that are missing.

    Returns:
        The comparison, with ``failures`` naming the runs that failed, ``skipped`` what was left
        out, and why.

    Raises:
        ClbenchError: for a suite that is refused, or if no run has left a record.
    """
    made = suite if isinstance(suite, Suite) else load(suite)
    folder = folder_of(made, output)
    start = choose_launcher(launcher, jobs, folder, slurm or {})
    inventory, skipped = Inventory(fetch=True), dict[str, str]()
    if skip_missing:
        made, skipped = skip(made, inventory)
        for line in inventory.lines():
            print(line, flush=True)
        if not made.cells:
            told = "; ".join(dict.fromkeys(skipped.values()))
            raise ClbenchError(f"nothing of {made.name} can run here: {told}")
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        searches = _tune(made, made.tune, folder, start, inventory) if made.tune else []
        lost = {s.name: s.failure for s in searches if s.chosen is None}
        settings = {s.name: s.settings for s in searches if s.chosen is not None}
        kept = replace(made, cells=tuple(c for c in made.cells if c.name not in lost))
        places = survey(kept.chosen(settings), folder / "runs")
        failures = lost | _run(places, folder, start, inventory)
    there = [place.folder for place in places if (place.folder / "record.jsonl").is_file()]
    if not there:
        told = "; ".join(f"{name}: {why}" for name, why in (skipped | failures).items())
        raise ClbenchError(f"no run of {made.name} has left a record ({told})")
    labels = {place.folder: place.run.method for place in places}
    comparison = compare_runs(there, labels, failures, skipped=skipped)
    page = build(comparison, Path(report) if report else folder / "report", made.name)
    print(f"Report: {page}", flush=True)
    return comparison


def folder_of(suite: Suite, output: Path | str | None) -> Path:
    """Where a suite's runs lie."""
    return Path(output) if output is not None else Path("runs") / suite.name


def _tune(
    suite: Suite, tune: Tuning, folder: Path, start: Launch, inventory: Inventory
) -> list[Search]:
    """Try settings for every cell, round by round; tries that are there are not run again."""
    searches = [Search(c.name, c.method, tune.space_of(c.method), tune.seed) for c in suite.cells]
    for number in range(tune.tries):
        print(f"Tuning, try {number + 1} of {tune.tries}:", flush=True)
        runs = [
            cell.plan(tune.seed, try_of(tune, search.ask().settings))
            for cell, search in zip(suite.cells, searches, strict=True)
        ]
        if not number:
            for told in dict.fromkeys(line for r in runs for line in stopped_by_scored(r.recipe)):
                print(f"Warning: {told}", flush=True)
        places = survey(runs, folder / "tries")
        places_once = list({place.folder: place for place in places}.values())
        failures = _run(places_once, folder, start, inventory)
        why = {p.folder: failures.get(p.run.name, "") for p in places_once}
        for search, place in zip(searches, places, strict=True):
            reason = why[place.folder]
            value = None if reason else score_of(Record.load(place.folder), tune.scenario)
            search.tell(value, reason)
            search.tries[-1].folder = str(place.folder.relative_to(folder))
        write_atomic(folder / "tuning.json", json.dumps(as_values(tune, searches), indent=1))
    return searches


def _run(
    places: Sequence[Place], folder: Path, start: Launch, inventory: Inventory
) -> dict[str, str]:
    """Run what is not finished and can run here; returns why runs failed, by name.

    Raises:
        ClbenchError: if nothing is finished, and nothing can run for want of data or weights.
    """
    left = [place for place in places if place.state != "finished"]
    lacks = {place.run.name: inventory.reason(place.run.recipe) for place in left}
    if places and len(left) == len(places) and all(lacks.values()):
        reasons, ways = "; ".join(dict.fromkeys(lacks.values())), inventory.ways
        raise ClbenchError(f"no run can start here: {reasons}" + f" ({ways})" * bool(ways))
    for line in inventory.lines():
        print(line, flush=True)
    todo, failures = list[Job](), {name: reason for name, reason in lacks.items() if reason}
    for place in places:
        if place.state == "finished":
            continue
        name = place.run.name
        if name in failures:
            continue
        if place.run.recipe.trainer.get("num_nodes", 1) != 1:
            failures[name] = "trainer.num_nodes: start it by srun clbench train, see docs/slurm.md"
            continue
        try:
            # A run that goes on may have other settings of where and how fast it works.
            place.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(place.folder / "config.yaml", dump(plain(place.run.recipe)))
        except OSError as error:
            failures[name] = f"{place.folder} cannot be written: {error}"
            continue
        log = folder / "logs" / f"{name}.log"
        recipe = place.run.recipe
        words = train_words(place.folder, *recipe.plugins, **addresses(plain(recipe)))
        todo.append(Job(name, words, log, place.folder))
    reused = len(places) - len(todo) - len(failures)
    print(
        f"{counted(len(places), 'run')}: {reused} finished before, {len(todo)} to do.", flush=True
    )
    if todo:
        with Watch(todo) as changed:
            start(todo, changed)
    return failures | {job.name: job.reason for job in todo if job.state == "failed"}
