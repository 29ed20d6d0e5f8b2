"""What the rows of one board share: stream, starting weights, protocol and budget.

A difference in any of these makes scores that no table should rank against each other. What else
differs between rows (rates, batch sizes, schedules …) may be the method's own choice: it is said
beside the rank, see :mod:`clbench.report.confounds`, and parts no rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any, final

from clbench.record.same_run import role_of
from clbench.report.confounds import complete
from clbench.report.gather import Run
from clbench.report.group import Group
from clbench.report.orders import ORDERS
from clbench.text.texts import cut_line, slug

#: Settings of a stream that are said in another way, or decide nothing of a finished run.
_ELSEWHERE = {"stream.name", "stream.test_on", "stream.first_tasks", "stream.classes", *ORDERS}
#: Values of settings that set nothing.
_NOTHING = ("None", "[]", "{}")
#: Source of weights that a run makes itself, before the first task.
PRETRAINED = "pretrain"
#: Settings that say how long a method trains.
_LENGTH = ("epochs", "steps")
LOGITS = {
    "task": "loss among the classes of the sample’s task",
    "seen": "loss among all classes seen so far",
    "all": "loss among all classes",
}


@final
@dataclass(frozen=True)
class Key:
    """What rows of one board share.

    Attributes:
        stream: its name, with its version if that is not the first.
        tasks: their names, in order.
        classes: names of the classes, in order.
        splits: hash of the images of all splits; empty where a record has none.
        settings: of the stream, by name: those that decide which images there are; and of the
            pretraining, where a run makes its own weights.
        size: side of the images, in pixels; 0 where a record does not say.
        backbone: its name, with its options.
        weights: where they came from, with their hash where they are one for all seeds.
        protocol: what the loss is among, and whether each task has a network of its own.
        memory: samples of past tasks that are kept; −1: past data is seen, and none is counted;
            0: none is seen.
        budget: how long each task is trained.
        bound: whether all tasks are learned at once.
    """

    stream: str
    tasks: tuple[str, ...]
    classes: tuple[str, ...]
    splits: str
    settings: tuple[tuple[str, str], ...]
    size: int
    backbone: str
    weights: str
    protocol: str
    memory: int
    budget: str
    bound: bool

    @property
    def title(self) -> str:
        """Stream and backbone, for people."""
        count = len(self.tasks)
        tasks = f"{count} task{'s' * (count != 1)}"
        parts = (self.stream, tasks, self.backbone, self.weights)
        return ", ".join(cut_line(part, 60) for part in parts)

    @property
    def whole_title(self) -> str:
        """The title and what else parts boards but their class order, for people."""
        return "; ".join((self.title, self.protocol, self.memory_words, self.budget))

    @property
    def settings_words(self) -> str:
        """The settings that say something, for people."""
        told = (f"{name} {value}" for name, value in self.settings if value not in _NOTHING)
        return ", ".join(told)

    @property
    def memory_words(self) -> str:
        """What of past tasks is seen, for people."""
        if self.bound:
            return "all tasks at once"
        if self.memory == 0:
            return "data-oblivious"
        if self.memory < 0:
            return "with past data"
        return f"memory of {self.memory:,} samples"

    def apart(self, other: Key) -> str:
        """What tells the key from another of its stream and backbone, for people."""
        reordered = self.classes != other.classes or self.tasks != other.tasks
        order = cut_line(" → ".join(self.tasks), 60)
        # The hash of the splits is of the tasks in order: it tells no more where that differs.
        others = self.settings != other.settings or (not reordered and self.splits != other.splits)
        parts = [
            f"{len(self.tasks)} tasks" * (len(self.tasks) != len(other.tasks)),
            f"class order {order}" * reordered,
            f"{self.size} pixels" * (self.size != other.size),
            "other images" * others,
            self.weights * (self.weights != other.weights),
            self.protocol * (self.protocol != other.protocol),
            self.memory_words * (self.memory_words != other.memory_words),
            self.budget * (self.budget != other.budget),
        ]
        return cut_line("; ".join(filter(None, parts)), 160)

    @property
    def stands_for(self) -> Key:
        """The key without the order of the classes, and what follows from it."""
        return replace(self, tasks=(str(len(self.tasks)),), classes=(), splits="")

    @cached_property
    def identity(self) -> str:
        """Sixteen digits that are equal for equal keys."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Name of the board's page: the same whatever else is on the site."""
        return f"{slug(f'{self.stream}-{self.backbone}', 60).lower()}-{self.identity}".lstrip("-")


def board_key(group: Group) -> Key:
    """What the runs of a group share with others on their board."""
    run = group.runs[0]
    about, settings = run.record.run, complete(run)
    options = ", ".join(f"{k}={v}" for k, v in sorted(about.options.items()))
    return Key(
        run.stream,
        tuple(about.tasks),
        tuple(about.class_names),
        about.split_manifest_sha256 or "",
        tuple(_settings(run, settings)),
        about.size or 0,
        about.backbone + f" ({options})" * bool(options),
        _weights(run),
        _protocol(run),
        _memory(group),
        _budget(run, settings),
        group.kind == "bound",
    )


def _settings(run: Run, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    sections = ["stream."]
    if run.record.run.weights.source == PRETRAINED:
        sections.append("model.pretraining.")
    return [
        (key.partition(".")[2], cut_line(str(value)))
        for key, value in sorted(settings.items())
        if key.startswith(tuple(sections)) and key not in _ELSEWHERE and role_of(key) == "decides"
    ]


def _weights(run: Run) -> str:
    """The starting weights; those that a seed draws have another hash for each."""
    weights = run.record.run.weights
    source = weights.source or "unknown weights"
    made = {"none": "not pretrained", PRETRAINED: "pretrained in the run"}
    named = PurePath(source).name or source
    return made.get(source) or f"{named} {(weights.sha256 or 'unknown')[:8]}"


def _protocol(run: Run) -> str:
    about = run.record.run
    parts = [LOGITS.get(about.train_logits or "", "loss among unknown classes")]
    if about.shared_labels:
        parts = ["tasks share their labels"]
    if about.independent:
        parts.append("a network for each task")
    return ", ".join(parts)


def _memory(group: Group) -> int:
    """Samples of past tasks that are kept, the most of all seeds."""
    if group.kind != "past":
        return 0
    return (
        max((int(r.summary["footprint"]["stored_samples"]) for r in group.finished), default=0)
        or -1
    )


def _budget(run: Run, settings: Mapping[str, Any]) -> str:
    """How long a task is trained, as the recipe says; of records without one, as it was."""
    if not run.recipe:
        steps = sum(event.steps for event in run.record.tasks)
        return f"{steps:,} steps in all (the recipe is unknown)"
    own = sorted(
        f"{key.removeprefix('per_task.').rpartition('.')[0]}: {value} {key.rpartition('.')[2]}"
        for key, value in settings.items()
        if key.startswith("per_task.") and key.endswith(tuple(f".{name}" for name in _LENGTH))
    )
    epochs, length = (settings.get(name) for name in _LENGTH)
    if length is not None:
        told = f"{length} steps of {settings.get('batch_size', '?')} samples a task"
    else:
        told = f"{epochs} epoch{'s' * (str(epochs) != '1')} a task"
    if settings.get("early_stopping.every") is not None:
        told = f"at most {told}, stopped early"
    return told + f" ({cut_line('; '.join(own))})" * bool(own)
