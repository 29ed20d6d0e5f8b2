"""``clbench verify --rerun``: one seed of a row is run again here, and what comes out is compared.

On another machine the same recipe does not give the same bits: other kernels round in other ways,
and training carries that on. At worst that is like another draw of the seed. So a repetition may
lie as far from the run that it repeats as two of the row's own seeds do from each other; two points
are always allowed. Where seeds lie more than ten points apart, a repetition beyond these tells
nothing: seeds can be made up to lie so.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from clbench.errors import ClbenchError
from clbench.models.missing import missing_weights
from clbench.plugins.recipes import HASHES, NAMES, admitted
from clbench.recipe.recipe import Recipe, parse
from clbench.record.record import Record, Scenario
from clbench.report.gather import Run, read_run
from clbench.runner.runner import run as run_recipe
from clbench.submission.checks.base import PackedRow
from clbench.submission.here import Here, NotMade, refuse_places
from clbench.submission.located import NotFound, located, pinned
from clbench.submission.submission import PackedRun, Submission
from clbench.suite.missing import Inventory

#: What the cells of R, in the mean, and OP may always differ by, and the most that verifies a row.
ALWAYS, MOST = 0.02, 0.10
#: Arguments of the Trainer that say on which devices.
_PLACED = ("accelerator", "devices", "num_nodes", "strategy", "enable_progress_bar")


@final
@dataclass(frozen=True)
class Again:
    """A run and its repetition, in one scenario.

    Attributes:
        scenario: which accuracies.
        cells: mean absolute difference over the cells of R, a fraction.
        overall: OP as submitted, and as it came out here.
        of_seeds: the largest such differences between two of the row's own seeds, of cells and OP.
        alike: whether versions, hardware and threads are told to be the same.
    """

    scenario: Scenario
    cells: float
    overall: tuple[float, float]
    of_seeds: tuple[float, float]
    alike: bool = False

    @property
    def same(self) -> bool:
        """Whether every accuracy came out as submitted."""
        return self.cells == 0

    @property
    def gaps(self) -> tuple[float, float]:
        """How far both lie apart: the cells in the mean, and OP."""
        return self.cells, abs(self.overall[0] - self.overall[1])

    @property
    def allowed(self) -> tuple[float, float]:
        """How far both may lie apart."""
        cells, overall = self.of_seeds
        return max(cells, ALWAYS), max(overall, ALWAYS)

    @property
    def fails(self) -> bool:
        """Whether rounding does not explain the difference."""
        return any(gap > most for gap, most in zip(self.gaps, self.allowed, strict=True))

    @property
    def holds(self) -> bool:
        """Whether the run came out the same, as far as that tells anything."""
        return not self.fails and max(self.gaps) <= MOST

    @property
    def words(self) -> str:
        """Both numbers, in %."""
        name, submitted = self.scenario.replace("_", "-"), 100 * self.overall[0]
        if self.same:
            return f"{name}: equal in every accuracy, OP {submitted:.2f} %"
        hint = ", though versions, hardware and threads are the same" * self.alike
        cells, overall = (100 * most for most in self.allowed)
        here = 100 * self.overall[1]
        return (
            f"{name}: accuracies {100 * self.cells:.2f} points apart in the mean (seeds: "
            f"{cells:.2f}), OP {submitted:.2f} % submitted and {here:.2f} % here (seeds: "
            f"{overall:.2f} points apart){hint}"
        )


def drawn_seed(submission: Submission, row: PackedRow) -> PackedRun:
    """The run of a row to repeat, drawn by the file's hash: the same for all who verify.

    Whoever packs can try titles until the hash falls on a certain seed.
    """
    text = f"{submission.sha256}\n{row.section}\n{row.method}"
    place = int(hashlib.sha256(text.encode()).hexdigest(), 16) % len(row.members)
    return row.members[place]


def again(
    one: PackedRun, row: PackedRow, here: Here, folder: Path, plugins: Sequence[str] = ()
) -> tuple[Again, ...]:
    """Run a recipe again, and compare.

    Args:
        one: the run of the row to repeat.
        row: its row, whose other seeds say how far apart runs are.
        here: this machine.
        folder: where the run goes.
        plugins: files or modules of whoever verifies; no others are loaded.

    Raises:
        NotMade: if it cannot be run here: data, weights or a plugin are missing.
        ClbenchError: if it measures something else.
    """
    recipe = _recipe(one, here, plugins)
    try:
        record = run_recipe(recipe, folder)
    except ClbenchError as error:
        raise NotMade(f"it could not be run here: {error}") from error
    beside, _ = read_run(folder)
    alike = beside is not None and _place(beside) == _place(one.run)
    records = [member.run.record for member in row.members]
    return tuple(
        replace(_compared(one.run.record, record, records, scenario), alike=alike)
        for scenario in one.run.record.scenarios
    )


def _place(run: Run) -> tuple[str, object]:
    """What decides how numbers are rounded: versions, hardware, and threads, which share sums."""
    return run.environment_hash, run.environment.get("threads")


def _recipe(one: PackedRun, here: Here, plugins: Sequence[str]) -> Recipe:
    """The recipe to run: with one's own data, on one device, without loggers and checkpoints."""
    if one.run.record.run.laid_on is not None:
        raise NotMade("it is laid on another run, which is not in the submission")
    if (asked := one.run.recipe.get(HASHES)) and not plugins:
        raise NotMade(f"needs the plugin {next(iter(asked))}: if you trust it, name it (--plugins)")
    try:
        values = located(one.run.recipe, here.data_dir) | {NAMES: list(plugins)}
        if weights := values["model"].get("weights"):
            values["model"]["weights"] = pinned(weights, one.run.record.run.weights.source)
    except NotFound as error:
        raise NotMade(str(error)) from error
    trainer = {k: v for k, v in dict(values.get("trainer") or {}).items() if k not in _PLACED}
    values |= {
        "loggers": {},
        "trainer": {**trainer, "enable_progress_bar": False},
        "stream": {**values["stream"], "download": False},
        "data_dir": str(here.data_dir),
        "checkpoints": "none",
        "name": None,
    }
    try:
        recipe = parse(admitted(values) if plugins else values)
    except ClbenchError as error:
        raise NotMade(str(error)) from error
    refuse_places(recipe)
    if lacking := Inventory(fetch=False).reason(recipe):
        raise NotMade(lacking)
    if (gone := missing_weights(recipe.model)) is not None:
        raise NotMade(f"needs {gone.what}")
    return recipe


def _compared(
    submitted: Record, repeated: Record, seeds: Sequence[Record], scenario: Scenario
) -> Again:
    told, found = (r.accuracy_matrix(scenario) for r in (submitted, repeated))
    if told.shape != found.shape or (np.isnan(told) != np.isnan(found)).any():
        raise ClbenchError("the run here measured other tasks than the one submitted")
    matrices = [record.accuracy_matrix(scenario) for record in seeds]
    between = [_apart(a, b) for a, b in itertools.combinations(matrices, 2)]
    overall = [_overall(record, scenario) for record in seeds]
    return Again(
        scenario,
        _apart(told, found),
        (_overall(submitted, scenario), _overall(repeated, scenario)),
        (max(between, default=0.0), max(overall) - min(overall)),
    )


def _apart(one: Any, other: Any) -> float:
    """Mean absolute difference of two matrices where both are measured."""
    return float(np.nanmean(np.abs(one - other)))


def _overall(record: Record, scenario: Scenario) -> float:
    found = record.summary()[scenario]["overall_performance"]
    return 0.0 if found is None else float(found)
