"""The record of a run: what happened, appended as it happens; reports read nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from clbench.errors import ClbenchError
from clbench.record import measured, probed, retained, scores, stability
from clbench.record.events import (
    EndEvent,
    Event,
    PretrainedEvent,
    RetentionScores,
    RunEvent,
    TaskEvent,
)
from clbench.record.events import Scenario as Scenario
from clbench.record.lines import events
from clbench.record.scopes import is_little, mean_scopes

SCENARIOS: tuple[Scenario, Scenario] = ("task_incremental", "class_incremental")
TITLES: dict[Scenario, str] = {
    "task_incremental": "task-incremental",
    "class_incremental": "class-incremental",
}
#: Where tasks share labels, both are one number.
SHARED_TITLES: dict[Scenario, str] = {"task_incremental": "domain-incremental"}


@dataclass(frozen=True)
class Record:
    """A run's events, in order, and what follows from them.

    Attributes:
        folder: the run folder.
        events: ``run`` (what is learned), ``pretrained`` (retention before the first task), one
            ``task`` for each task, and ``end`` once the stream is through; see
            :mod:`clbench.record.events`.
    """

    folder: Path
    events: tuple[Event, ...]

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """The record of a run folder; a last line that a crash left unfinished is passed over.

        Raises:
            ClbenchError: if the folder holds no record, or a line of it is damaged.
        """
        path = Path(folder) / "record.jsonl"
        if not path.is_file():
            raise ClbenchError(f"{folder} holds no run: there is no {path}")
        return cls(Path(folder), tuple(events(path, path.read_bytes())))

    @cached_property
    def run(self) -> RunEvent:
        """What is learned: ``title``, ``tasks``, ``class_names``, ``independent`` …

        Raises:
            ClbenchError: if the record has not a whole line yet.
        """
        for event in self.events:
            if isinstance(event, RunEvent):
                return event
        raise ClbenchError(
            f"{self.folder / 'record.jsonl'} has no line: put it back from a copy, or remove the "
            f"folder {self.folder / 'checkpoints'} to resume from the start"
        )

    @cached_property
    def _start(self) -> PretrainedEvent | None:
        return next((event for event in self.events if isinstance(event, PretrainedEvent)), None)

    @property
    def pretrained(self) -> RetentionScores | None:
        """Retention before the first task; None if it was not measured."""
        return self._start.retention if self._start else None

    @property
    def retained_before(self) -> dict[str, float]:
        """What other measures say before the first task, by name."""
        return self._start.retained if self._start else {}

    @cached_property
    def tasks(self) -> tuple[TaskEvent, ...]:
        """The events of the tasks learned so far."""
        return tuple(event for event in self.events if isinstance(event, TaskEvent))

    @property
    def finished(self) -> bool:
        """Whether the stream is through."""
        return any(isinstance(event, EndEvent) for event in self.events)

    @property
    def scenarios(self) -> dict[Scenario, str]:
        """The accuracies that differ, with their titles: two, or one where tasks share labels.

        There the classes of a task are those of all tasks, so that both are the same number.
        """
        if self.run.shared_labels:
            return SHARED_TITLES
        return TITLES

    def until_task(self, index: int) -> tuple[Event, ...]:
        """The events up to and with that of task ``index``; none if it is not in the record."""
        found = (
            n for n, e in enumerate(self.events) if isinstance(e, TaskEvent) and e.task == index
        )
        return self.events[: max(found, default=-1) + 1]

    def ended(self, lacking: Sequence[str] = ()) -> Record:
        """The record with its last line; ``lacking`` names pictures that could not be drawn."""
        told = {"lacking": list(lacking)} if lacking else {}
        return Record(self.folder, (*self.events, EndEvent.made(**told)))

    def accuracy_matrix(self, scenario: Scenario = "task_incremental") -> NDArray[np.float64]:
        """R (T, T): test accuracy on task i after task t; NaN where nothing was measured."""
        count = len(self.run.tasks)
        matrix = np.full((count, count), np.nan)
        for event in self.tasks:
            for part in filter(None, (event, event.ahead)):
                known = part.evaluated
                matrix[event.task, known.start : known.stop] = part.of(scenario)
        return matrix

    def before(self, scenario: Scenario = "task_incremental") -> list[float] | None:
        """(T,) test accuracy on every task before the first; None where it was not measured."""
        found = self._start and self._start.ahead
        return list(found.of(scenario)) if found else None

    def curves(self) -> Iterator[dict[str, Any]]:
        """Points of the per-task curves: ``step``, ``task``, both accuracies, and the metrics."""
        for event in self.tasks:
            for step, point in event.course():
                for number, task in enumerate(point.evaluated):
                    yield {
                        "step": step,
                        "task": task,
                        **{scenario: point.of(scenario)[number] for scenario in SCENARIOS},
                        **measured.points(point, number),
                    }

    def summary(self) -> dict[str, Any]:
        """The numbers of ``summary.json``; accuracies are fractions in 0…1."""
        retention = self._retention()
        return {
            "name": self.run.title,
            "stream": self.run.stream,
            "methods": list(self.run.methods),
            "seed": self.run.seed,
            "tasks": self.run.tasks,
            "finished": self.finished,
            **{scenario: self._scores(scenario, retention["kept"]) for scenario in SCENARIOS},
            **self._metrics(),
            **({"representation": found} if (found := self.probes()) else {}),
            "retention": retention,
            "footprint": self._footprint(),
            "inactive": self._inactive(),
            "scope": self._scopes(),
            "ineffective": self._ineffective(),
            "cost": self._cost(),
        }

    def _scores(self, scenario: Scenario, kept: float | None) -> dict[str, Any]:
        matrix = self.accuracy_matrix(scenario)
        images, before = self.run.test_images, self.before(scenario)
        result: dict[str, Any] = scores.all_scores(matrix, images, before)
        result["before"] = before  # what forward transfer is measured from
        del result["intransigence"]  # it needs other runs
        if self.run.independent:  # a network for each task: in the end, each is shown its own
            ends = scores.all_scores([np.diag(matrix)] * len(matrix), images)
            result |= {k: v for k, v in ends.items() if k.startswith("overall_performance")}
        result |= self._stability(scenario)
        learned = result["overall_performance"]
        known = None if learned is None or kept is None else scores.geometric_mean(learned, kept)
        result["geometric_mean"] = known
        result["accuracy_matrix"] = [
            [None if np.isnan(value) else value for value in row] for row in matrix.tolist()
        ]
        return result

    def _metrics(self) -> dict[str, Any]:
        count, alone = len(self.run.tasks), self.run.independent
        found = measured.summary(self.tasks, count, alone, SCENARIOS)
        return {"metrics": found} if found else {}

    def probes(self) -> dict[str, dict[str, Any]]:
        """What classifiers made anew of the features say; empty if none were."""
        return probed.probe_scores(self.tasks, len(self.run.tasks))

    def _stability(self, scenario: Scenario) -> dict[str, float | None]:
        """How low it went: known where every task was looked at while later ones were trained."""
        tasks = self.tasks
        looked = len(tasks) == len(self.run.tasks) and all(event.curve for event in tasks[1:])
        points = (
            [
                (event.task, dict(zip(point.evaluated, point.of(scenario), strict=True)))
                for event in tasks
                for _, point in event.course()
            ]
            if looked
            else []
        )
        return {
            "min_accuracy": stability.min_accuracy(points),
            "worst_case_accuracy": stability.worst_case_accuracy(points),
        }

    def _retention(self) -> dict[str, Any]:
        before, alone = self.pretrained, self.run.independent
        others = retained.courses(self.retained_before, self.tasks, alone)
        if before is None:
            none = {"pretrained": None, "after_task": None, "change": None, "kept": None}
            return none | ({"measures": others} if others else {})
        kept = [event.retention for event in self.tasks if event.retention]
        own = retained.course(before.top1, [retention.top1 for retention in kept], alone)
        return {
            "pretrained": before.top1,
            "pretrained_top5": before.top5,
            "after_task": own["after_task"],
            "after_task_top5": [retention.top5 for retention in kept],
            "change": own["change"],
            "kept": own["kept"],
            **retained.of_metrics(before, kept, alone),
            **({"measures": {retained.HEAD: own} | others} if others else {}),
        }

    def _footprint(self) -> dict[str, Any]:
        """Everything all methods need together."""
        added = ("stored_samples", "stored_bytes", "weight_copies", "extra_passes_per_step")
        tasks = self.tasks
        now = tasks[-1].footprint.values() if tasks else ()  # what is stored grows over tasks
        spent = sum(
            part.time_share * event.seconds for event in tasks for part in event.footprint.values()
        )
        return {
            "data_oblivious": not any(part.past_data for part in now),
            **({"reference_data": True} if any(part.reference_data for part in now) else {}),
            **{name: sum(getattr(part, name) for part in now) for name in added},
            "time_share": spent / sum(e.seconds for e in tasks) if tasks else 0.0,
        }

    def _inactive(self) -> list[str]:
        return [
            name
            for name in self.run.methods
            if self.tasks and not any(e.methods[name].get("active", 1) for e in self.tasks)
        ]

    def _scopes(self) -> dict[str, float | None]:
        return mean_scopes(list(self.run.methods), self.tasks)

    def _ineffective(self) -> list[str]:
        """Methods that acted, but could do next to nothing."""
        idle, scopes = self._inactive(), self._scopes()
        little = {name for name, scope in scopes.items() if scope is not None and is_little(scope)}
        return [name for name in scopes if name in little and name not in idle]

    def _cost(self) -> dict[str, Any]:
        tasks, trained = self.tasks, self.run.laid_on is None
        return {
            "seconds": sum(event.seconds for event in tasks),
            "seconds_by_part": self._parts(),
            "flops": self._flops(),
            "train_steps": tasks[-1].last_step if tasks and trained else 0,
            "samples": sum(event.samples for event in tasks if trained),
            "parameters": self.run.parameters,
            "peak_memory_bytes": max((e.peak_memory_bytes for e in tasks), default=0),
        }

    def _flops(self) -> float | None:
        """Of training on all tasks; None where one is not known."""
        known = [event.flops for event in self.tasks if event.flops is not None]
        return sum(known) if len(known) == len(self.tasks) else None

    def _parts(self) -> dict[str, float]:
        """Seconds of each part of all tasks; empty where the record is of an older version."""
        found: dict[str, float] = {}
        for event in self.tasks:
            for part, took in event.parts.items():
                found[part] = found.get(part, 0.0) + took.seconds
        return found
