"""What is measured in a run, and how its loggers hear of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.reader import Reader, distinct
from clbench.files.disk import recordable
from clbench.measure.evaluate import Evaluator
from clbench.measure.loggers import Loggers
from clbench.measure.representation import RepresentationTest
from clbench.measure.retention import RetentionTest
from clbench.methods.base import Method
from clbench.processes.processes import world_size
from clbench.record.events import CurvePoint, Measured, PretrainedEvent, TaskEvent
from clbench.record.logged import FINISHED
from clbench.record.record import SCENARIOS
from clbench.streams import Stream, Task


@dataclass(frozen=True)
class Meter:
    """Measures networks on the tasks of a stream.

    Attributes:
        stream: the stream.
        evaluator: how networks are evaluated.
        retention_test: measures retention; None where there is nothing to measure it on.
        logger: all loggers of the run.
        representation_test: asks the features about earlier tasks; None if that is not wanted.
    """

    stream: Stream
    evaluator: Evaluator
    retention_test: RetentionTest | None
    logger: Loggers
    representation_test: RepresentationTest | None = None

    def through(self, reader: Reader) -> Meter:
        """The same meter, which reads the tasks' images by ``reader``."""
        return replace(self, evaluator=replace(self.evaluator, reader=reader))

    def test(self, model: nn.Module, task: Task, seen: Tensor) -> dict[str, Any]:
        """Test scores on all tasks up to ``task`` (independent tasks: on it alone).

        Args:
            model: the network.
            task: the task just learned.
            seen: bool (C,), the classes seen so far.

        Returns:
            What a :class:`~clbench.record.events.Measured` has.
        """
        tasks = self._tasks(task)
        return self._scores(model, tasks, [t.test for t in tasks], seen)

    def ahead(self, model: nn.Module, task: Task | None, seen: Tensor) -> dict[str, Any] | None:
        """Test accuracies on the tasks after ``task`` (None: on all), which are yet to be learned.

        Class-incremental, a task's classes compete with those seen so far, as they will once it is
        learned; those of other tasks to come do not.

        Args:
            model: the network.
            task: the task just learned.
            seen: bool (C,), the classes seen so far.

        Returns:
            As :meth:`test`; None if there are no such tasks.
        """
        later = [t for t in self.stream.tasks if task is None or t.index > task.index]
        if not later:
            return None
        found: dict[str, Any] = {"first": later[0].index, **{name: [] for name in SCENARIOS}}
        made = []
        apart, places = unlike(later)
        for one in apart:
            known = seen.clone()
            known[one.classes.start : one.classes.stop] = True
            made.append(self._scores(model, [one], [one.test], known))
        for place in places:
            for scenario in SCENARIOS:
                found[scenario] += made[place][scenario]
        return found

    def validation(self, model: nn.Module, task: Task, seen: Tensor) -> dict[str, Any] | None:
        """The same on the validation parts; None where nothing was held out."""
        tasks = self._tasks(task)
        if not all(len(t.validation) for t in tasks):
            return None
        return self._scores(model, tasks, [t.validation for t in tasks], seen)

    def retention(self, model: nn.Module) -> dict[str, Any]:
        """What is kept, as events have it: see :meth:`RetentionTest.measure`."""
        return self.retention_test.measure(model) if self.retention_test else {"retention": None}

    def representation(self, model: nn.Module, task: Task) -> dict[str, list[float]]:
        """Accuracies of classifiers made anew on the tasks up to ``task``, by name."""
        assert self.representation_test is not None
        return self.representation_test.measure(self.evaluator, model, self._tasks(task))

    def curve(
        self, model: nn.Module, every: int, task: Task, seen: Tensor, points: list[dict[str, Any]]
    ) -> Callable[[int], None]:
        """What to call after each step, so that every ``every`` steps a point is added."""

        def on_step(step: int) -> None:
            if step % every:
                return
            if world_size() > 1:  # running statistics differ between processes
                for buffer in model.buffers():
                    dist.broadcast(buffer, 0)
            point = {"step": step, **self.test(model, task, seen)}
            points.append(point)
            self.logger.log_metrics(_tagged(CurvePoint.model_validate(recordable(point))), step)

        return on_step

    def log_pretrained(self, event: PretrainedEvent) -> None:
        """Tell the loggers what the network knew before the first step."""
        if known := _retained(event):
            self.logger.log_metrics(known, 0)

    def log(self, event: TaskEvent, number: int, methods: Mapping[str, Method]) -> None:
        """Tell the loggers of a finished task, from 1, and of what the methods did in it."""
        step = event.last_step
        for name, method in methods.items():
            for what, tensor in method.histograms().items():
                self.logger.log_histogram(f"methods/{name}/{what}", tensor, step)
        values = _tagged(event) | {FINISHED: number}
        for scenario in SCENARIOS:
            mean = sum(event.of(scenario)) / len(event.of(scenario))
            values[f"scores/{scenario}/mean_of_seen_tasks"] = mean
        values |= _retained(event)
        for name, asked in event.representation.items():
            values |= {
                f"representation/{name}/task_{number + 1:02}": value
                for number, value in zip(event.evaluated, asked, strict=True)
            }
        for acting, activity in event.methods.items():
            values |= {f"methods/{acting}/{name}": value for name, value in activity.items()}
        values |= {f"distance/{name}": value for name, value in event.distance.items()}
        known = {name: value for name, value in values.items() if value is not None}
        self.logger.log_metrics(known, step)  # last: a run that goes on cuts what comes after
        self.logger.save()

    def _tasks(self, task: Task) -> list[Task]:
        first = task.index if self.stream.independent else 0
        return [t for t in self.stream.tasks if first <= t.index <= task.index]

    def _scores(
        self, model: nn.Module, tasks: Sequence[Task], splits: Sequence[Split], seen: Tensor
    ) -> dict[str, Any]:
        scores = self.evaluator.accuracy(model, splits, self.stream.task_of_class, seen)
        more = {"metrics": scores.metrics} if scores.metrics else {}
        accuracies = {str(name): getattr(scores, name) for name in SCENARIOS}
        return {"first": tasks[0].index, **accuracies, **more}


def unlike(tasks: Sequence[Task]) -> tuple[list[Task], list[int]]:
    """Tasks that differ in test images or classes, and of each task the place of the one that is
    the same, so that a network has the same accuracy on both."""
    kinds = list(zip(distinct([t.test for t in tasks])[1], (t.classes for t in tasks), strict=True))
    found = dict(zip(reversed(kinds), reversed(tasks), strict=True))  # the first of each
    places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
    return [found[kind] for kind in places], [places[kind] for kind in kinds]


def _tagged(point: Measured) -> dict[str, Any]:
    """Every task's accuracies and metrics, by TensorBoard's tags."""
    kinds: dict[str, Sequence[Any]] = {scenario: point.of(scenario) for scenario in SCENARIOS}
    for name, found in point.metrics.items():
        kinds |= {f"{name}/{scenario}": values for scenario, values in found.items()}
    return {
        f"{kind}/task_{task + 1:02}": value
        for kind, values in kinds.items()
        for task, value in zip(point.evaluated, values, strict=True)
        if value is not None
    }


def _retained(event: PretrainedEvent | TaskEvent) -> dict[str, float]:
    """What is kept, by what loggers call it; what is no number is left out."""
    told: dict[str, float | None] = dict(event.retained)
    if found := event.retention:
        told |= {"top1": found.top1, "top5": found.top5, **found.metrics}
    return {f"retention/{name}": value for name, value in told.items() if value is not None}
