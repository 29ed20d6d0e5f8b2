"""Run folders, read for a comparison: the record, and the recipe and environment beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from clbench.errors import ClbenchError
from clbench.record import trust
from clbench.record.baselines import PLAIN
from clbench.record.record import Record, Scenario
from clbench.record.retained import HEAD
from clbench.record.same_run import settings
from clbench.report import defaults
from clbench.report.places import run_folders, sweep_files
from clbench.text.texts import cut_line

#: Metrics that a recipe can ask for beside accuracy.
MEASURED = ("calibration_error", "nll")
_SEED = re.compile(r"-seed\d+$")
#: What values that no run has could bring about; and what files that no run wrote can, besides
#: :class:`ClbenchError`.
ODD = (LookupError, ValueError, TypeError, ArithmeticError, RecursionError)
UNREADABLE = (*ODD, OSError)


@dataclass(frozen=True)
class Run:
    """One run, as far as its record goes.

    Attributes:
        folder: where it lies.
        record: its events.
        summary: its scores, as in ``summary.json``.
        recipe: the resolved recipe, empty if ``config.yaml`` was not copied along.
        environment: versions and hardware, empty if ``environment.json`` was not copied along.
        sweeps: parameters that were swept after training, by the name of their file; see
            :mod:`clbench.report.sweeps`.
    """

    folder: Path
    record: Record
    summary: Mapping[str, Any]
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    sweeps: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return self.record.run.seed

    @property
    def stream_version(self) -> int:
        """The version of the stream's definition; records before there were any have the first."""
        return self.record.run.stream_version

    @property
    def stream(self) -> str:
        """Name of the stream, with its version if that is not the first."""
        version = self.stream_version
        return self.record.run.stream + (f" version {version}" if version > 1 else "")

    @property
    def finished(self) -> bool:
        """Whether the stream is through; only then its scores count."""
        return self.record.finished

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in order; empty for sequential fine-tuning."""
        return [name for name in self.record.run.methods if name != PLAIN]

    def having(self, trait: str, unknown: bool = False) -> set[str]:
        """Names of the methods that have a trait of :mod:`clbench.methods.statements`.

        Args:
            trait: its name.
            unknown: whether methods have it of which neither the record nor this version knows.
        """
        told = self.record.run.traits
        found = {name: told.get(name, defaults.traits_of(name)) for name in self.methods}
        return {n for n, own in found.items() if (unknown if own is None else trait in own)}

    @property
    def name(self) -> str | None:
        """The name that the recipe gave, without the seed; None for the default name."""
        run = self.record.run
        usual = f"{run.stream}-{'+'.join(run.methods) or PLAIN}-seed{run.seed}"
        return None if run.title == usual else _SEED.sub("", run.title)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that can make a difference but the seed, as dotted keys to plain values."""
        run = self.record.run
        source: Mapping[str, Any] = self.recipe or {
            "stream": {"name": run.stream} | ({"independent": True} if run.independent else {}),
            "methods": run.methods,
            "model": {"backbone": run.backbone, "options": run.options},
            "images": {"size": run.size},
            "train_logits": run.train_logits,
        }
        told = settings(source, ("free", "repeats"))
        return told | {"methods": ",".join(self.methods)}  # as the record has them

    @property
    def independent(self) -> bool:
        """Whether every task starts from the pretrained weights, as in transfer learning."""
        return self.record.run.independent

    @property
    def courses(self) -> Mapping[str, Mapping[str, Any]]:
        """What every measure says is kept, by name; see :mod:`clbench.record.retained`.

        Settings other than the defaults are part of a name: numbers by others are no column of one.
        """
        kept = self.summary["retention"]
        if "measures" in kept:
            return {
                name + defaults.measured(name, self.settings): course
                for name, course in kept["measures"].items()
            }
        own = {
            "before": kept["pretrained"],
            **{k: kept[k] for k in ("after_task", "change", "kept")},
        }
        return {} if kept["pretrained"] is None else {HEAD: own}

    @property
    def probes(self) -> Mapping[str, Mapping[str, Any]]:
        """What the features still tell by every measure, by name, with settings as of courses."""
        found = self.summary.get("representation", {})
        return {n + defaults.probed(n, self.settings): about for n, about in found.items()}

    @property
    def is_try(self) -> bool:
        """Whether the scores are those on validation data, as in tuning."""
        return self.record.run.test_on == "validation"

    @property
    def environment_hash(self) -> str:
        """Twelve digits that are equal for runs with the same versions on the same hardware."""
        own = ("command", "weights", "split_manifest_sha256", "git", "threads", "plugins")
        shared = {k: v for k, v in self.environment.items() if k not in own}
        text = json.dumps(shared, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12] if shared else "unknown"

    def score(self, metric: str, scenario: Scenario) -> float | None:
        """One number of the run; None if it has none.

        On independent tasks, each of which has a model of its own, retention is their mean.

        Args:
            metric: its key in :data:`clbench.report.metrics.METRICS`; ``pretrained`` and
                ``retention_change``: the retention before training, and the difference from it;
                ``before``, ``after``, ``change`` or ``kept`` of a measure, as in ``kept:knn``; or
                ``probe_learned``, ``probe_final`` or ``probe_change`` of one.
            scenario: which accuracies to read.
        """
        if not self.finished:
            return None
        scores, kept = self.summary[scenario], self.summary["retention"]
        after, before = kept["after_task"], kept["pretrained"]
        retention = (fmean(after) if self.independent else after[-1]) if after else None
        value: float | None
        if metric in scores:
            value = scores[metric]
        elif metric.startswith("probe_"):
            what, measure = metric.removeprefix("probe_").split(":", 1)
            value = self.probes.get(measure, {}).get(what)
        elif metric.startswith("retention:"):
            value = _kept("after", kept.get("metrics", {}).get(metric.split(":", 1)[1]))
        elif ":" in metric:
            what, measure = metric.split(":", 1)
            value = _kept(what, self.courses.get(measure))
        elif metric == "retention":
            value = retention
        elif metric == "kept":
            value = kept["kept"]
        elif metric == "pretrained":
            value = before
        elif metric == "retention_change":
            value = None if retention is None else retention - before
        elif metric == "average":
            op = scores["overall_performance"]
            value = None if op is None or retention is None else (op + retention) / 2
        elif metric in MEASURED:
            value = self.summary.get("metrics", {}).get(metric, {}).get(scenario, {}).get("final")
        elif metric in self.summary["footprint"]:
            value = self.summary["footprint"][metric]
        else:
            value = self.summary["cost"][metric]
        return None if value is None else float(value)


def _kept(what: str, course: Mapping[str, Any] | None) -> float | None:
    """One number of a measure's course; None without one."""
    if course is None or (what == "after" and course["change"] is None):
        return None
    value: float | None
    value = course["before"] + course["change"] if what == "after" else course[what]
    return value


def gather(places: Iterable[Path | str]) -> tuple[list[Run], list[str]]:
    """All runs in and below some folders, and a line for each that cannot be read.

    Args:
        places: run folders, or folders that hold some; see :mod:`clbench.report.places`.

    Raises:
        ClbenchError: if a folder is missing, or there is no run at all.
    """
    roots = [Path(place) for place in places]
    runs: list[Run] = []
    problems: list[str] = []
    for folder in run_folders(roots):
        try:
            run, passed_over = read_run(folder)
        except (ClbenchError, *UNREADABLE) as error:
            problems.append(cut_line(f"{folder.name} is left out: {reason_of(error)}."))
            continue
        if run is None:
            problems.append(
                cut_line(f"{folder.name} has only just begun: nothing is measured yet.")
            )
            continue
        runs.append(run)
        if passed_over:
            told = "; ".join(passed_over[:2]) + (" …" if len(passed_over) > 2 else "")
            problems.append(cut_line(f"{folder.name} counts, but not all of its files: {told}."))
    if not runs:
        where = ", ".join(map(str, roots)) or "(no folder given)"
        more = f" And {len(problems) - 3} more." if len(problems) > 3 else ""
        told = " ".join([f"there are no runs in {where}.", *problems[:3]])
        raise ClbenchError(cut_line(told + more, 2000))
    return runs, problems


def read_run(folder: Path) -> tuple[Run | None, list[str]]:
    """A run folder's run, None if it has just begun; and why files beside its record do not count.

    Raises:
        ClbenchError: if its record or its recipe is not what a run writes.
    """
    record = trust.record_of(folder)
    if len(record.events) < 2:
        return None, []
    odd = sorted({name for event in record.events for name in event.unknown})[:5]
    passed_over = [f"record.jsonl has {', '.join(odd)}, which no run writes"] if odd else []

    def optional(reader: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any]:
        try:
            return reader(path)
        except (ClbenchError, *UNREADABLE) as error:
            passed_over.append(reason_of(error))
            return {}

    recipe = trust.config_of(folder, record.run.recipe)
    environment = optional(trust.environment_of, folder)
    swept = {path.stem: optional(trust.sweep_of, path) for path in sweep_files(folder)}
    swept = {name: values for name, values in swept.items() if values}
    run = Run(folder, record, record.summary(), recipe, environment, swept)
    _ = run.settings  # worked out here, where what fails concerns this folder only
    return run, passed_over


def reason_of(error: BaseException) -> str:
    """Why a run folder cannot be read, in half a line."""
    if isinstance(error, ClbenchError):
        return str(error)
    if isinstance(error, OSError):
        return f"{Path(str(error.filename or '')).name or 'a file'}: {error.strerror or error}"
    return f"{type(error).__name__}: {error}".rstrip(": ") + "; is it of another version?"
