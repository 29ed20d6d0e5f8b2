"""The record of a run: what happened, appended as it happens; reports read nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from clbench import scores
from clbench.errors import ClbenchError

Scenario = Literal["task_incremental", "class_incremental"]
SCENARIOS: tuple[Scenario, Scenario] = ("task_incremental", "class_incremental")
Event = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A run's events, in order, and what follows from them.

    Attributes:
        folder: the run folder.
        events: ``run`` (what is learned), ``pretrained`` (retention before the first task), one
            ``task`` for each task, and ``end`` once the stream is through.
    """

    folder: Path
    events: tuple[Event, ...]

    @classmethod
    def load(cls, folder: Path | str) -> Record:
        """The record of a run folder; a line that a crash left unfinished is passed over.

        Raises:
            ClbenchError: if the folder holds no record.
        """
        path = Path(folder) / "record.jsonl"
        if not path.is_file():
            raise ClbenchError(f"{folder} holds no run: there is no {path}")
        return cls(Path(folder), tuple(_lines(path)))

    @property
    def run(self) -> Event:
        """What is learned: ``title``, ``tasks``, ``class_names``, ``independent`` …"""
        return next(event for event in self.events if event["event"] == "run")

    @property
    def tasks(self) -> list[Event]:
        """The events of the tasks learned so far."""
        return [event for event in self.events if event["event"] == "task"]

    @property
    def finished(self) -> bool:
        """Whether the stream is through."""
        return any(event["event"] == "end" for event in self.events)

    def until_task(self, index: int) -> tuple[Event, ...]:
        """The events up to and with that of task ``index``."""
        last = max(
            i for i, e in enumerate(self.events) if e["event"] == "task" and e["task"] == index
        )
        return self.events[: last + 1]

    def accuracy_matrix(self, scenario: Scenario = "task_incremental") -> NDArray[np.float64]:
        """R (T, T): test accuracy on task i after task t; NaN where nothing was measured."""
        count = len(self.run["tasks"])
        matrix = np.full((count, count), np.nan)
        for event in self.tasks:
            for task, accuracy in zip(event["evaluated"], event[scenario], strict=True):
                matrix[event["task"], task] = accuracy
        return matrix

    def curves(self) -> Iterator[dict[str, Any]]:
        """Points of the per-task curves: ``step``, ``task``, and both accuracies."""
        for event in self.tasks:
            points = event["curve"] + [event | {"step": event["last_step"]}]
            for point in points:
                for number, task in enumerate(point["evaluated"]):
                    yield {
                        "step": point["step"],
                        "task": task,
                        **{scenario: point[scenario][number] for scenario in SCENARIOS},
                    }

    def summary(self) -> dict[str, Any]:
        """The numbers of ``summary.json``; accuracies are fractions in 0…1."""
        return {
            "name": self.run["title"],
            "stream": self.run["stream"],
            "methods": list(self.run["methods"]),
            "seed": self.run["seed"],
            "tasks": self.run["tasks"],
            "finished": self.finished,
            **{scenario: self._scores(scenario) for scenario in SCENARIOS},
            "retention": self._retention(),
            "footprint": self._footprint(),
            "inactive": self._inactive(),
            "cost": self._cost(),
        }

    def _scores(self, scenario: Scenario) -> dict[str, Any]:
        matrix = self.accuracy_matrix(scenario)
        result: dict[str, Any] = dict.fromkeys(
            ("overall_performance", "backward_transfer", "forgetting", "learning_accuracy")
        )
        lower = matrix[np.tril_indices(len(matrix))]
        diagonal = np.diag(matrix)
        if not np.isnan(lower).any():
            result |= {name: getattr(scores, name)(matrix) for name in result}
        elif not np.isnan(matrix[-1]).any():  # all tasks were trained together
            result["overall_performance"] = float(matrix[-1].mean())
        elif self.run["independent"] and not np.isnan(diagonal).any():  # a model for each task
            result["overall_performance"] = result["learning_accuracy"] = float(diagonal.mean())
        result["accuracy_matrix"] = [
            [None if np.isnan(value) else value for value in row] for row in matrix.tolist()
        ]
        return result

    def _retention(self) -> dict[str, Any]:
        before = next(e["retention"] for e in self.events if e["event"] == "pretrained")
        if before is None:
            return {"pretrained": None, "after_task": None, "change": None}
        after = [event["retention"]["top1"] for event in self.tasks]
        return {
            "pretrained": before["top1"],
            "pretrained_top5": before["top5"],
            "after_task": after,
            "after_task_top5": [event["retention"]["top5"] for event in self.tasks],
            "change": self._last(after) - before["top1"] if after else None,
        }

    def _last(self, after: list[float]) -> float:
        """Retention in the end; of independent tasks, each with a network of its own, the mean."""
        return sum(after) / len(after) if self.run["independent"] else after[-1]

    def _footprint(self) -> dict[str, Any]:
        """Everything all methods need together."""
        added = ("stored_samples", "stored_bytes", "weight_copies", "extra_passes_per_step")
        tasks = self.tasks
        now = tasks[-1]["footprint"].values() if tasks else ()  # what is stored grows over tasks
        spent = sum(
            part["time_share"] * event["seconds"]
            for event in tasks
            for part in event["footprint"].values()
        )
        return {
            "data_oblivious": not any(part["past_data"] for part in now),
            **{name: sum(part[name] for part in now) for name in added},
            "time_share": spent / sum(e["seconds"] for e in tasks) if tasks else 0.0,
        }

    def _inactive(self) -> list[str]:
        return [
            name
            for name in self.run["methods"]
            if self.tasks and not any(e["methods"][name].get("active", 1) for e in self.tasks)
        ]

    def _cost(self) -> dict[str, Any]:
        tasks = self.tasks
        return {
            "seconds": sum(event["seconds"] for event in tasks),
            "train_steps": tasks[-1]["last_step"] if tasks else 0,
            "samples": sum(event["samples"] for event in tasks),
            "parameters": self.run["parameters"],
            "peak_memory_bytes": max((e["peak_memory_bytes"] for e in tasks), default=0),
        }


class Recorder:
    """Appends events to ``record.jsonl``; each is on the disk before the run goes on.

    Args:
        folder: the run folder.
        keep: events of an interrupted run to go on from.
        writes: whether this process writes; of several, only the first does.
    """

    def __init__(self, folder: Path, keep: tuple[Event, ...] = (), writes: bool = True) -> None:
        self.path, self.writes = folder / "record.jsonl", writes
        if writes:
            write_atomic(self.path, "".join(json.dumps(event) + "\n" for event in keep))

    def add(self, event: str, **values: Any) -> None:
        """Append one event."""
        if self.writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, **values}) + "\n")
                file.flush()
                os.fsync(file.fileno())


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file to write that takes its place only when it is whole and on the disk."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _lines(path: Path) -> Iterator[Event]:
    for line in path.read_text("utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return  # the run was killed while it wrote this line
