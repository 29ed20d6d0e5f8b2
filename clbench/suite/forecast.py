"""``clbench compare --dry_run``: what of a suite is there, and what the rest will take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError
from clbench.estimate.estimating import Shared, estimate
from clbench.recipe.yamlfile import nested
from clbench.record.record import Record
from clbench.report.tuning import tuning_in as read_tunings
from clbench.suite.done import Place, finished, hashes_below, survey
from clbench.suite.missing import Inventory, skip
from clbench.suite.suite import Suite
from clbench.suite.tuning import Tuning
from clbench.text.numbers import counted, duration, size


def plan(suite: Suite, folder: Path, skip_missing: bool = False) -> Iterator[str]:
    """The grid with what is there, and the time and disk that the rest will take; line by line.

    A method's finished runs tell what its others will take; without any, a short trial does.
    """
    skipped = dict[str, str]()
    if skip_missing:
        inventory = Inventory(fetch=False)
        suite, skipped = skip(suite, inventory)
        for name, reason in skipped.items():
            yield f"{name}: skipped: {reason}"
        yield from inventory.lines()
        if not suite.cells:
            yield f"nothing of {suite.name} can run here."
            return
    places = survey(suite.chosen(_chosen(suite, folder)), folder / "runs")
    left = [place for place in places if place.state != "finished"]
    inventory, tried = Inventory(fetch=False), 0
    text = f"{counted(len(places), 'run')}: {len(places) - len(left)} finished, {len(left)} to do"
    if suite.tune:
        tried = suite.tune.tries * len(suite.cells)
        done = sum(map(finished, hashes_below(folder / "tries").values()))
        text += (
            f"; before them {tried} tries on the first {suite.tune.tasks} tasks, {done} finished"
        )
        tried = max(0, tried - done) if left else 0
    cells: dict[tuple[str, ...], list[Place]] = {}
    for place in places:
        recipe = place.run.recipe
        key = (place.run.method, str(recipe.stream), str(recipe.model))
        cells.setdefault(key, []).append(place)
    costs, width = _Costs(suite.tune, tried / len(cells)), max(len(p.run.name) for p in places)
    for found in cells.values():
        told = costs.add(found)
        for place in found:
            yield f"{place.run.name:<{width}}  {place.state}{told}"
    if left:
        text += (
            f"; about {duration(costs.seconds)} one after the other, imports not counted, and "
            f"{size(costs.disk)} of disk"
        )
    yield f"{text}."
    reasons = [inventory.reason(place.run.recipe) for place in left]
    for reason in dict.fromkeys(filter(None, reasons)):
        yield f"{counted(reasons.count(reason), 'run')} cannot start here: {reason}."
    yield from inventory.lines()


class _Costs:
    """Seconds and bytes of the runs that are left, and of the tries before them.

    Args:
        tune: how settings are chosen before.
        tries: of each cell.
    """

    def __init__(self, tune: Tuning | None, tries: float) -> None:
        self.tune, self.tries = tune, tries
        self.seconds = self.own = 0.0
        self._shared: dict[str, int] = {}
        self._known: Shared = {}

    @property
    def disk(self) -> float:
        """Bytes; what runs share counts once."""
        return self.own + sum(self._shared.values())

    def add(self, places: Sequence[Place]) -> str:
        """Count the runs of a cell; what one takes, where none is finished, to be told of it."""
        done = [place.folder for place in places if place.state == "finished"]
        left = len(places) - len(done)
        if done and left:
            self.seconds += left * sum(map(_seconds, done)) / len(done)
            files = (f for folder in done for f in folder.rglob("*") if f.is_file())
            self.own += left * sum(f.stat().st_size for f in files) / len(done)
        if not ((left and not done) or self.tries):
            return ""
        try:
            needs = estimate(places[0].run.recipe, self._known)
        except ClbenchError:  # the reason is said beside
            return ""
        each = needs.disk.get("run folder", 0)
        if self.tune:
            self.seconds += self.tries * needs.of_try(self.tune.tasks)
            self.own += self.tries * each
        self._shared |= {what: n for what, n in needs.disk.items() if what != "run folder"}
        if done:
            return ""
        self.seconds += left * needs.seconds
        self.own += left * each
        memory = size(needs.memory["peak"])
        return f"  {needs.total.steps:,} steps, about {duration(needs.seconds)}, {memory} of memory"


def _chosen(suite: Suite, folder: Path) -> dict[str, dict[str, Any]]:
    """The settings that an earlier tuning of the suite chose; empty if there is none."""
    path = folder / "tuning.json"
    if suite.tune is None or not path.is_file():
        return {}
    cells = {cell.name for cell in suite.cells}
    return {
        cell.name: nested(cell.best.settings)
        for cell in read_tunings(path).cells
        if cell.best is not None and cell.name in cells
    }


def _seconds(folder: Path) -> float:
    return float(sum(event.seconds for event in Record.load(folder).tasks))
