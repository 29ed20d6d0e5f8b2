"""Run folders, read for a comparison: the record, and the recipe and environment beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from clbench.errors import ClbenchError
from clbench.record import Record, Scenario
from clbench.report import sweeps

#: Settings that name a run or say where and how fast it runs, not what it computes.
IRRELEVANT = (
    "name",
    "seed",
    "data_dir",
    "images.workers",
    "images.keep",
    "stream.download",
    "eval_batch_size",
    "checkpoints",
    "trainer.enable_progress_bar",
)
_SEED = re.compile(r"-seed\d+$")


@dataclass(frozen=True)
class Run:
    """One run, as far as its record goes.

    Attributes:
        folder: where it lies.
        record: its events.
        summary: its scores, as in ``summary.json``.
        recipe: the resolved recipe, empty if ``config.yaml`` was not copied along.
        environment: versions and hardware, empty if ``environment.json`` was not copied along.
    """

    folder: Path
    record: Record
    summary: Mapping[str, Any]
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """The seed of the training."""
        return int(self.record.run["seed"])

    @property
    def finished(self) -> bool:
        """Whether the stream is through; only then its scores count."""
        return self.record.finished

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in order; empty for sequential fine-tuning."""
        return [name for name in self.record.run["methods"] if name != "sequential"]

    @property
    def name(self) -> str | None:
        """The name that the recipe gave, without the seed; None for the default name."""
        run = self.record.run
        usual = f"{run['stream']}-{'+'.join(run['methods']) or 'sequential'}-seed{run['seed']}"
        return None if run["title"] == usual else _SEED.sub("", run["title"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that can make a difference but the seed, as dotted keys to plain values."""
        run = self.record.run
        source: Mapping[str, Any] = self.recipe or {
            "stream": {"name": run["stream"]},
            "methods": run["methods"],
            "model": {"backbone": run["backbone"], "options": run.get("options")},
            "images": {"size": run.get("size")},
            "train_logits": run.get("train_logits"),
        }
        settings = {k: v for k, v in flatten(source).items() if k not in IRRELEVANT}
        settings.pop("methods.sequential", None)
        return settings | {"methods": ",".join(self.methods)}  # their order matters too

    @property
    def independent(self) -> bool:
        """Whether every task starts from the pretrained weights, as in transfer learning."""
        return bool(self.record.run.get("independent"))

    @property
    def is_try(self) -> bool:
        """Whether the scores are those on validation data, as in tuning."""
        return self.record.run.get("test_on") == "validation"

    @cached_property
    def sweeps(self) -> dict[str, dict[str, Any]]:
        """Parameters that were swept after training, see :mod:`clbench.report.sweeps`."""
        return sweeps.read(self.folder)

    @property
    def environment_hash(self) -> str:
        """Twelve digits that are equal for runs with the same versions on the same hardware."""
        own = ("command", "weights", "split_manifest_sha256", "git", "threads")
        shared = {k: v for k, v in self.environment.items() if k not in own}
        text = json.dumps(shared, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12] if shared else "unknown"

    def score(self, metric: str, scenario: Scenario) -> float | None:
        """One number of the run; None if it has none.

        On independent tasks, each of which has a model of its own, retention is their mean.

        Args:
            metric: its key in :data:`clbench.report.metrics.METRICS`, or ``pretrained`` and
                ``retention_change``: the retention before training, and the difference from it.
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
        elif metric == "retention":
            value = retention
        elif metric == "pretrained":
            value = before
        elif metric == "retention_change":
            value = None if retention is None else retention - before
        elif metric == "average":
            op = scores["overall_performance"]
            value = None if op is None or retention is None else (op + retention) / 2
        elif metric in self.summary["footprint"]:
            value = self.summary["footprint"][metric]
        else:
            value = self.summary["cost"][metric]
        return None if value is None else float(value)


def gather(places: Iterable[Path | str]) -> tuple[list[Run], list[str]]:
    """All runs in and below some folders, and a line for each that cannot be read.

    Args:
        places: run folders, or folders that hold some, at any depth.

    Raises:
        ClbenchError: if a folder is missing, or there is no run at all.
    """
    folders: dict[Path, None] = {}
    roots = [Path(place) for place in places]
    for place in roots:
        if not place.is_dir():
            raise ClbenchError(f"there is no folder {place}")
        for path in sorted(place.rglob("record.jsonl")):
            folders[path.parent.resolve()] = None
    runs, problems = [], []
    for folder in folders:
        try:
            record = Record.load(folder)
            record.run  # noqa: B018  (a run that has just begun has none yet)
            runs.append(
                Run(
                    folder,
                    record,
                    record.summary(),
                    _plain(folder / "config.yaml"),
                    _plain(folder / "environment.json"),
                )
            )
        except StopIteration:
            problems.append(f"{folder.name} has only just begun: nothing is measured yet.")
        except (LookupError, ValueError, TypeError, OSError) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            problems.append(f"{folder.name} cannot be read ({reason}); is it of another version?")
    if not runs:
        where = ", ".join(map(str, roots)) or "(no folder given)"
        raise ClbenchError(" ".join([f"there are no runs in {where}", *problems]))
    return runs, problems


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; a mapping without keys stays one.

    >>> flatten({"a": {"b": 1, "c": {}}})
    {'a.b': 1, 'a.c': '{}'}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            plain = value is None or isinstance(value, str | int | float)
            flat[f"{prefix}{key}"] = value if plain else json.dumps(value, default=str)
    return flat


def _plain(path: Path) -> dict[str, Any]:
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
        text = path.read_text("utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.load(text, loader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}
