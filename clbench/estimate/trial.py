"""A short run of a tiny network, timed piece by piece: what a run does beside its own network.

Three small tasks pass through :class:`~clbench.runner.runner.Run` itself with the recipe's
methods, in a folder that is removed afterwards. Images that go through the network are counted on
its first layer, with and without gradients: a run does the same with its own network, whose time
for them :mod:`clbench.estimate.speed` knows.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clbench.data.batches import Batches, Examples, Split
from clbench.errors import ClbenchError
from clbench.estimate.speed import Pace, now, pace
from clbench.learner.learner import Learner
from clbench.learner.trainer import accumulated
from clbench.machine import peak_memory, reset_peak
from clbench.measure.evaluate import Evaluator, Scores
from clbench.measure.meter import Meter
from clbench.methods.base import Context, Method, overriding
from clbench.recipe.recipe import Recipe
from clbench.runner.runner import Run
from clbench.streams import Storage, Stream, StreamConfig, Task
from clbench.weights import tensors_in

#: The networks that may stand in, the size of their images, and the most samples of a batch.
TINY: tuple[dict[str, Any], ...] = (
    {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}},
    {"backbone": "tiny_vit", "weights": "none", "options": {}},
)
SIZE, BATCH = 16, 64
STAGES, STEPS, TESTS = 3, 4, 64


class Amount(NamedTuple):
    """What went on for a while.

    Attributes:
        seconds: of it.
        trained: images that went through the network with gradients.
        passed: images that went through it without.
    """

    seconds: float
    trained: float
    passed: float

    def minus(self, *others: Amount) -> Amount:
        """Without parts of it."""
        return Amount(*(a - sum(b) for a, *b in zip(self, *others, strict=True)))


@dataclass
class Stage:
    """What one small task took: ``prepare``, ``fit``, ``test`` and the ``rest``.

    Attributes:
        images: training images it has.
        parts: by name.
        steps: seconds of each step but the first.
        calls: evaluations.
    """

    images: int
    parts: dict[str, Amount] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)
    calls: int = 0


@dataclass(frozen=True)
class Overheads:
    """What the trial found.

    Attributes:
        stages: the small tasks.
        batch: samples of a batch.
        accumulated: batches of a step.
        tiny: seconds of the tiny network's batches.
        start: seconds before the first task.
        end: seconds to write the results.
        peak: most bytes in use.
        trunk: whether more than the head was trained.
        copies: of the weights that methods remember, as a number.
        stored: of the weights in the run folder.
        other: bytes in the run folder beside.
        mixed: what methods mix into the batches of later tasks, as shares.
        methods: as they are after the trial.
    """

    stages: Sequence[Stage]
    batch: int
    accumulated: int
    tiny: Pace
    start: float
    end: float
    peak: int
    trunk: bool
    copies: float
    stored: float
    other: int
    mixed: Sequence[float]
    methods: Sequence[Method]

    def part(self, name: str, images: int) -> Amount:
        """``prepare`` or ``rest`` of a task with so many training images."""
        second, third = self.stages[1:]  # the first warms up
        points = zip(second.parts[name], third.parts[name], strict=True)
        return Amount(*(_at(images, (second.images, a), (third.images, b)) for a, b in points))

    def passed(self, images: int) -> int:
        """Training images of such a task that go through the network beside steps and tests."""
        return round(sum(sum(self.part(name, images)[1:]) for name in ("prepare", "rest")))

    def step(self, behind: int, batch: float) -> Amount:
        """A step after so many tasks, beside the way of its own batches through the network.

        Args:
            behind: tasks before this one.
            batch: samples of the run's batches.
        """
        first, second, third = map(self._step, self.stages)
        growth = third.trained - second.trained
        if behind and growth > 0:  # GEM passes over a memory of every task behind
            return second._replace(trained=second.trained + (behind - 1) * growth)
        one, share = third if behind else first, batch / self.batch
        return Amount(one.seconds, one.trained * share, one.passed * share)

    def _step(self, stage: Stage) -> Amount:
        steps = len(stage.steps) + 1
        trained = stage.parts["fit"].trained / steps - self.batch * self.accumulated
        passed = stage.parts["fit"].passed / steps
        own = self.accumulated * self.tiny.train.of(self.batch)
        own += self.tiny.train.of(trained) + self.tiny.test.of(passed)
        return Amount(max(0.0, statistics.median(stage.steps) - own), max(0.0, trained), passed)

    @property
    def fit(self) -> float:
        """Seconds of a task's training beside its steps."""
        return statistics.mean(
            max(0.0, s.parts["fit"].seconds - statistics.median(s.steps) * (len(s.steps) + 1))
            for s in self.stages[1:]
        )

    @property
    def call(self) -> float:
        """Seconds of an evaluation beside the network's own: those of a small one."""
        seconds = sum(stage.parts["test"].seconds for stage in self.stages[1:])
        return seconds / sum(stage.calls for stage in self.stages[1:])


def try_out(recipe: Recipe, stream: Stream) -> Overheads:
    """Time a short run.

    Args:
        recipe: the run's, on one device.
        stream: its stream in outline.
    """
    images = recipe.images.model_copy(update={"size": SIZE})
    for network in TINY:
        model = recipe.model.model_copy(update=network)
        with contextlib.suppress(ClbenchError):  # LoRA's targets may be layers of one kind
            return _tried(recipe.model_copy(update={"model": model, "images": images}), stream, 64)
    # Its own network, then, and as little as can be.
    return _tried(recipe.model_copy(update={"batch_size": 2}), stream, 1)


def _tried(recipe: Recipe, stream: Stream, least: int) -> Overheads:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return _Trial(recipe, stream, Path(folder) / "trial", least).overheads()


class _Trial(Run):
    """A run over small tasks that takes its own time."""

    def __init__(self, recipe: Recipe, stream: Stream, folder: Path, least: int) -> None:
        reset_peak()
        began = time.perf_counter()
        folder.mkdir()
        super().__init__(_small(recipe, stream), folder, resume=False, tries=False)
        self.start = time.perf_counter() - began
        self.found = list[Stage]()
        self.batch, self.accumulated = min(recipe.batch_size, BATCH), accumulated(recipe)
        self.count = _Count(self.network.model)
        tasks = [
            replace(task, validation=_few(task.validation, TESTS), test=_few(task.test, TESTS))
            for task in stream.tasks[:STAGES]
        ]
        self.stream = replace(stream, tasks=tuple(tasks))
        stages: Sequence[Task] = tasks
        for method in overriding(self.methods, "arrange"):
            stages = method.arrange(stages)
        # The last one is larger: so costs per image and costs per task part.
        least = max(least, STEPS * self.batch)
        stages = [stages[i % len(stages)] for i in range(STAGES)]
        self.stages = [
            replace(stage, train=_few(stage.train, least * (1 + (i == 2))))
            for i, stage in enumerate(stages)
        ]
        self.batch = min(self.batch, *(len(stage.train) for stage in self.stages))
        self.recipe = self.recipe.model_copy(update={"steps": STEPS, "batch_size": self.batch})
        evaluator = _TimedEvaluator(**vars(self.meter.evaluator), report=self._tested)
        self.meter = Meter(self.stream, evaluator, None, self.logger)

    def overheads(self) -> Overheads:
        """Run, and say what it took."""
        began = time.perf_counter()
        self.go()
        last = self.context.task.train
        mixed: list[float] = []
        for method in overriding(self.methods, "examples"):
            mixed += [extra.fraction for extra in method.examples(Examples(last)).mixed]
        model = self.network.model
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        shapes = {tuple(p.shape) for p in model.parameters()}
        states = [method.state_dict() for method in self.methods]
        files = [f for f in self.folder.rglob("*") if f.is_file()]
        sizes = {f: f.stat().st_size for f in files}
        weights = sum(n for f, n in sizes.items() if f.suffix in (".pt", ".safetensors"))
        transform = self.network.transform(self.recipe)
        tiny = pace(model, last, transform, self.device, self.network.autocast)
        return Overheads(
            stages=self.found,
            batch=self.batch,
            accumulated=self.accumulated,
            tiny=tiny,
            start=self.start + self.first - began,
            end=self.end - self.ended,
            peak=peak_memory(self.device),
            trunk=self.trunk,
            copies=_alike(states, shapes) / size,
            stored=weights / size,
            other=sum(sizes.values()) - weights,
            mixed=mixed,
            methods=self.methods,
        )

    def go(self) -> None:
        """See :meth:`Run.go`."""
        super().go()
        self.end = time.perf_counter()

    def _task(self, number: int, task: Task, *rest: Any) -> Any:
        if number == 1:
            self.first = time.perf_counter()
        stage = Stage(len(task.train), {"test": Amount(0.0, 0.0, 0.0)})
        self.found.append(stage)
        with self._part("rest"):
            result = super()._task(number, task, *rest)
        parts = stage.parts
        parts["rest"] = parts["rest"].minus(*(parts[p] for p in ("prepare", "fit", "test")))
        self.ended = time.perf_counter()
        return result

    def _prepare(self, *arguments: Any) -> tuple[Context, Tensor, Batches]:
        with self._part("prepare"):
            made = super()._prepare(*arguments)
        self.context = made[0]
        head, named = set(made[0].head), made[0].model.named_parameters()
        self.trunk = any(p.requires_grad for name, p in named if name not in head)
        return made

    def _fit(self, learner: Learner, *rest: Any) -> None:
        marks: list[float] = []
        learner.on_step = lambda _: marks.append(now(self.device))
        with self._part("fit"):
            super()._fit(learner, *rest)
        self.found[-1].steps = [b - a for a, b in itertools.pairwise(marks)]

    def _tested(self, seconds: float, images: int) -> None:
        stage = self.found[-1]
        stage.calls += 1
        test = stage.parts["test"]
        stage.parts["test"] = Amount(test.seconds + seconds, 0.0, test.passed + images)

    @contextlib.contextmanager
    def _part(self, name: str) -> Iterator[None]:
        stage, began, before = self.found[-1], now(self.device), self.count.images()
        yield
        passed = (b - a for a, b in zip(before, self.count.images(), strict=True))
        stage.parts[name] = Amount(now(self.device) - began, *passed)


class _Count:
    """Counts the images that go through a network and its copies: with gradients, and without."""

    def __init__(self, model: nn.Module) -> None:
        counts = [0, 0]

        def count(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # FLOW's reference is a frozen copy; a trunk that is frozen is still in training mode.
            learns = layer.training or any(p.requires_grad for p in layer.parameters())
            counts[not (learns and torch.is_grad_enabled())] += len(inputs[0])

        leaves = (m for m in model.modules() if not list(m.children()) and list(m.parameters()))
        next(leaves).register_forward_pre_hook(count)
        self.images: Callable[[], tuple[int, ...]] = lambda: tuple(counts)


class _Built(StreamConfig):
    """A stream that is there already."""

    _stream: Stream | None = None

    def build(self, data_dir: Path, storage: Storage) -> Stream:
        """See :meth:`StreamConfig.build`."""
        assert self._stream is not None
        return self._stream


@dataclass(frozen=True)
class _TimedEvaluator(Evaluator):
    """An evaluator that reports its seconds and images."""

    report: Callable[[float, int], None] = lambda *_: None

    def accuracy(self, model: nn.Module, splits: Sequence[Split], *rest: Any) -> Scores:
        """See :meth:`Evaluator.accuracy`."""
        began = time.perf_counter()
        scores = super().accuracy(model, splits, *rest)
        self.report(time.perf_counter() - began, sum(map(len, splits)))
        return scores


def alone(recipe: Recipe) -> Recipe:
    """A recipe on one device of this machine, with random weights, nothing to retain or draw."""
    trainer = recipe.trainer | {
        "devices": 1, "num_nodes": 1, "strategy": "auto", "enable_progress_bar": False
    }  # fmt: skip
    if not torch.cuda.is_available():
        if trainer.get("accelerator") in ("gpu", "cuda"):
            trainer["accelerator"] = "cpu"
        if str(trainer.get("precision", "32")).startswith("16"):
            trainer["precision"] = "bf16-mixed"
    changes: dict[str, Any] = {
        "trainer": trainer,
        "model": recipe.model.model_copy(update={"weights": "none"}),
        "retention": recipe.retention.model_copy(update={"data": "none"}),
        "eval_every": None,
        "evaluate": "seen",
        "name": None,
    }
    return recipe.model_copy(update=changes)


def _small(recipe: Recipe, stream: Stream) -> Recipe:
    """The recipe on its outline, with rates that let nothing diverge."""
    built = _Built(name=recipe.stream.name)
    built._stream = stream
    changes: dict[str, Any] = {
        "stream": built,
        "optimizer": recipe.optimizer.model_copy(update={"lr": 1e-9}),
        "epochs": None,
        "per_task": {},
    }
    return recipe.model_copy(update=changes)


def _few(split: Split, count: int) -> Split:
    """At most ``count`` images of a split, spread over its classes."""
    if len(split) <= count:
        return split
    chosen = torch.linspace(0, len(split) - 1, count).long()
    return Split(split.images, split.index[chosen], split.labels[chosen])


def _at(x: float, first: tuple[float, float], second: tuple[float, float]) -> float:
    """The line through two points, at x; it does not fall, and y is not negative."""
    (x1, y1), (x2, y2) = first, second
    if x1 == x2:
        return (y1 + y2) / 2 * x / x1
    slope = max(0.0, (y2 - y1) / (x2 - x1))
    return max(0.0, y1 + slope * (x - x1))


def _alike(value: object, shapes: set[tuple[int, ...]]) -> int:
    """Bytes of all tensors of these shapes in nested mappings and sequences."""
    alike = (x for x in tensors_in(value) if tuple(x.shape) in shapes)
    return sum(x.numel() * x.element_size() for x in alike)
