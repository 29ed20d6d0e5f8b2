"""A short run on random images, timed piece by piece: what a real run's costs are taken from.

Three small tasks pass through :class:`~clbench.runner.Run` itself, with the recipe's network,
methods, image size and batch size, in a folder that is removed afterwards. Weights are random, as
their values do not change the time.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clbench.data.batches import Batches, Split
from clbench.evaluate import Evaluator, Scores
from clbench.learner import Learner
from clbench.meter import Meter
from clbench.method import Context, Method, overriding
from clbench.outline import taken
from clbench.recipe import Recipe
from clbench.runner import Run
from clbench.speed import Seconds, now, speed
from clbench.streams import Storage, Stream, StreamConfig, Task
from clbench.trainer import peak_memory

STAGES = 3
STEPS = (3, 20)


@dataclass
class Stage:
    """What one small task took.

    Attributes:
        images: training images it has.
        seconds: by part: ``prepare``, ``fit``, ``test``, and ``rest``.
        passed: training images that were taken, by part.
        steps: seconds of each step but the first.
        passes: extra passes a step, as each method declares them.
    """

    images: int
    seconds: dict[str, float] = field(default_factory=dict)
    passed: dict[str, int] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)
    passes: list[float] = field(default_factory=list)

    @property
    def overhead(self) -> float:
        """Seconds of a task's training that do not grow with its steps."""
        return max(0.0, self.seconds["fit"] - statistics.median(self.steps) * (len(self.steps) + 1))


@dataclass(frozen=True)
class Costs:
    """What the trial found.

    Attributes:
        device: what it ran on.
        stages: the small tasks.
        batch: samples of a batch.
        start: seconds to make the network.
        end: seconds to write the results.
        train: of the bare network's steps, to tell longer batches from shorter ones.
        evaluated: seconds to evaluate an image.
        parameters: of the network.
        bytes: by what: ``parameters``, ``gradients``, ``optimizer``, ``anchors``, ``methods``, and
            ``run folder``, on disk.
        peak: most bytes in use at the recipe's batch size; images kept in memory are not in it.
        methods: as they are after the trial.
        context: of the last small task.
    """

    device: torch.device
    stages: Sequence[Stage]
    batch: int
    start: float
    end: float
    train: Seconds
    evaluated: float
    parameters: int
    bytes: Mapping[str, int]
    peak: int
    methods: Sequence[Method]
    context: Context

    def part(self, name: str, images: int) -> float:
        """Seconds of ``prepare`` or ``rest`` for a task with so many training images."""
        stages = self.stages[1:]  # the first warms up
        if not any(stage.passed[name] for stage in stages):
            return statistics.mean(stage.seconds[name] for stage in stages)
        return _line([(stage.images, stage.seconds[name]) for stage in stages], images)

    def passed(self, images: int) -> int:
        """Training images of such a task that are taken outside of its steps and tests."""
        stages = self.stages[1:]
        return sum(
            round(_line([(stage.images, stage.passed[name]) for stage in stages], images))
            for name in ("prepare", "rest")
        )

    def step(self, first: bool, samples: float, passes: float) -> float:
        """Seconds of a step of the first task or a later one.

        Args:
            first: whether no task came before.
            samples: of a batch, on the mean.
            passes: extra passes over a batch of the trial, by the methods in :attr:`growing`.
        """
        usual = statistics.median(time for stage in self.stages[1:] for time in stage.steps)
        alone = min(usual, statistics.median(self.stages[0].steps))
        each = 0.0
        if self.growing:
            last, added = statistics.median(self.stages[-1].steps), 0.0
            for i in self.growing:
                added += self.stages[-1].passes[i] - self.stages[0].passes[i]
            each = max(0.0, last - alone) / added
        base = alone if first or self.growing else usual
        return base * self.train.ratio(samples, self.batch) + each * passes

    @property
    def growing(self) -> list[int]:
        """Positions of the methods whose passes grow with the tasks behind them."""
        second, third = (stage.passes for stage in self.stages[1:])
        return [i for i, (a, b) in enumerate(zip(second, third, strict=True)) if b > a]

    @property
    def overhead(self) -> float:
        """Seconds of a task's training beside its steps."""
        return statistics.mean(stage.overhead for stage in self.stages[1:])


def try_out(recipe: Recipe, stream: Stream, batch: int, seconds: float, most: int) -> Costs:
    """Time a short run.

    Args:
        recipe: the run's.
        stream: its stream in outline.
        batch: samples of a batch on one device.
        seconds: about how long it may take; a large network on a CPU gets smaller batches.
        most: samples of a batch of the trial, at most.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return _Trial(recipe, stream, Path(folder) / "trial", batch, seconds, most).costs()


class _Trial(Run):
    """A run over small tasks that takes its own time."""

    def __init__(
        self,
        recipe: Recipe,
        stream: Stream,
        folder: Path,
        batch: int,
        seconds: float,
        most: int,
    ) -> None:
        _reset_peak()
        began = time.perf_counter()
        folder.mkdir()
        super().__init__(_small(recipe, stream), folder, resume=False)
        self.start = time.perf_counter() - began
        self.wanted, self.found = batch, list[Stage]()
        model, size = self.network.model.train(), recipe.images.size
        train, forward = speed(model, size, self.device, self.network.autocast)
        accumulate = int(recipe.trainer.get("accumulate_grad_batches", 1))
        # Three steps of three tasks, and what else goes through the network.
        self.batch = min(most, max(2, train.images(seconds / accumulate / 12)))
        step = train.of(self.batch) * accumulate
        steps = min(max(int(seconds / step / 6), STEPS[0]), STEPS[1])
        tests = min(max(forward.images(seconds / 48), 4), recipe.eval_batch_size)
        self.train = train
        # Batches of so few tests take longer for an image than those of the run.
        self.shorter = forward.ratio(recipe.eval_batch_size, tests) * tests / recipe.eval_batch_size
        tasks = [
            replace(task, validation=_few(task.validation, tests), test=_few(task.test, tests))
            for task in stream.tasks[:STAGES]
        ]
        self.stream = replace(stream, tasks=tuple(tasks))
        stages: Sequence[Task] = tasks
        for method in overriding(self.methods, "arrange"):
            stages = method.arrange(stages)
        # The last one is larger: so costs per image and costs per task part.
        counts = [(steps + 1) * self.batch * accumulate * (1 + (i == 2)) for i in range(STAGES)]
        stages = [stages[i % len(stages)] for i in range(STAGES)]
        self.stages = [
            replace(stage, train=_few(stage.train, count))
            for stage, count in zip(stages, counts, strict=True)
        ]
        self.recipe = self.recipe.model_copy(update={"steps": steps, "batch_size": self.batch})
        evaluator = self.meter.evaluator
        self.evaluator = _TimedEvaluator(**vars(evaluator), train=stream.train_images)
        self.meter = Meter(self.stream, self.evaluator, None, self.logger)

    def costs(self) -> Costs:
        """Run, and say what it took."""
        before = peak_memory(self.device)
        self.go()
        end = time.perf_counter() - self.ended
        parameters = list(self.network.model.parameters())
        anchors = [
            a.state for a in (self.context.anchors.pretrained, self.context.anchors.previous)
        ]
        states = [method.state_dict() for method in self.methods]
        sizes = {
            "parameters": _bytes(parameters),
            "gradients": _bytes([p for p in parameters if p.requires_grad]),
            "optimizer": self.optimizer_bytes,
            "anchors": _bytes(anchors, self.device),
            "methods": _bytes(states, self.device),
            "run folder": sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file()),
        }
        peak = peak_memory(self.device)
        if self.batch < self.wanted:  # activations grow with the batch
            fixed = sum(sizes[name] for name in ("gradients", "optimizer", "anchors", "methods"))
            peak += int(max(0, peak - before - fixed) * (self.wanted / self.batch - 1))
        later = [t for t in self.evaluator.times if t.stage > 0]
        return Costs(
            device=self.device,
            stages=self.found,
            batch=self.batch,
            start=self.start,
            end=end,
            train=self.train,
            evaluated=self.shorter * sum(t.seconds for t in later) / sum(t.images for t in later),
            parameters=sum(p.numel() for p in parameters),
            bytes=sizes,
            peak=peak,
            methods=self.methods,
            context=self.context,
        )

    def _task(self, number: int, task: Task, *rest: Any) -> Any:
        stage = Stage(len(task.train))
        self.found.append(stage)
        self.evaluator.stage.append(number - 1)
        with self._part("rest"):
            result = super()._task(number, task, *rest)
        tests = [t for t in self.evaluator.times if t.stage == number - 1]
        stage.seconds["test"] = sum(t.seconds for t in tests)
        stage.passed["test"] = sum(t.taken for t in tests)
        for part in ("prepare", "fit", "test"):
            stage.seconds["rest"] -= stage.seconds[part]
            stage.passed["rest"] -= stage.passed[part]
        stage.passes = [method.needs.passes for method in self.methods]
        self.ended = time.perf_counter()
        return result

    def _prepare(self, *arguments: Any) -> tuple[Context, Tensor, Batches]:
        with self._part("prepare"):
            made = super()._prepare(*arguments)
        self.context = made[0]
        return made

    def _fit(self, learner: Learner, *rest: Any) -> None:
        marks: list[float] = []
        learner.on_step = lambda _: marks.append(now(self.device))
        with self._part("fit"):
            super()._fit(learner, *rest)
        self.found[-1].steps = [b - a for a, b in itertools.pairwise(marks)]
        self.optimizer_bytes = _bytes([o.state for o in learner.trainer.optimizers])

    @contextlib.contextmanager
    def _part(self, name: str) -> Iterator[None]:
        stage, began = self.found[-1], now(self.device)
        before = taken(self.stream.train_images)
        yield
        stage.seconds[name] = now(self.device) - began
        stage.passed[name] = taken(self.stream.train_images) - before


class _Built(StreamConfig):
    """A stream that is there already."""

    _stream: Stream | None = None

    def build(self, data_dir: Path, storage: Storage) -> Stream:
        """See :meth:`StreamConfig.build`."""
        assert self._stream is not None
        return self._stream


@dataclass(frozen=True)
class _Timing:
    stage: int
    seconds: float
    images: int
    taken: int


@dataclass(frozen=True)
class _TimedEvaluator(Evaluator):
    """An evaluator that notes how long it takes, in which stage, and for how many images."""

    train: Any = None
    times: list[_Timing] = field(default_factory=list)
    stage: list[int] = field(default_factory=list)

    def accuracy(self, model: nn.Module, split: Split, *rest: Any) -> Scores:
        """See :meth:`Evaluator.accuracy`."""
        began, before = time.perf_counter(), taken(self.train)
        scores = super().accuracy(model, split, *rest)
        seconds = time.perf_counter() - began
        took = _Timing(self.stage[-1], seconds, len(split), taken(self.train) - before)
        self.times.append(took)
        return scores


def _small(recipe: Recipe, stream: Stream) -> Recipe:
    """The recipe on one device, with random weights and rates that let nothing diverge."""
    built = _Built(name=recipe.stream.name)
    built._stream = stream
    trainer = recipe.trainer | {
        "devices": 1, "num_nodes": 1, "strategy": "auto", "enable_progress_bar": False
    }  # fmt: skip
    if not torch.cuda.is_available():
        if trainer.get("accelerator") in ("gpu", "cuda"):
            trainer["accelerator"] = "cpu"
        if str(trainer.get("precision", "32")).startswith("16"):
            trainer["precision"] = "bf16-mixed"
    changes = {
        "stream": built,
        "trainer": trainer,
        "model": recipe.model.model_copy(update={"weights": "none"}),
        "optimizer": recipe.optimizer.model_copy(update={"lr": 1e-9}),
        "retention": recipe.retention.model_copy(update={"data": "none"}),
        "epochs": None,
        "per_task": {},
        "eval_every": None,
    }
    return recipe.model_copy(update=changes)


def _few(split: Split, count: int) -> Split:
    """At most ``count`` images of a split, spread over its classes."""
    if len(split) <= count:
        return split
    chosen = torch.linspace(0, len(split) - 1, count).long()
    return Split(split.images, split.index[chosen], split.labels[chosen])


def _line(points: Sequence[tuple[float, float]], x: float) -> float:
    """The line through two points, at x; it does not fall, and y is not negative."""
    (x1, y1), (x2, y2) = points
    if x1 == x2:
        return (y1 + y2) / 2 * x / x1
    slope = max(0.0, (y2 - y1) / (x2 - x1))
    return max(0.0, y1 + slope * (x - x1))


def _bytes(value: object, device: torch.device | None = None) -> int:
    """Bytes of all tensors (on a kind of device) in nested mappings and sequences."""
    if isinstance(value, Tensor):
        here = device is None or value.device.type == device.type
        return value.numel() * value.element_size() * here
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    return sum(_bytes(one, device) for one in inner)


def _reset_peak() -> None:
    """Forget earlier peaks of memory, where the system lets us (Linux, CUDA)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "utf-8")
