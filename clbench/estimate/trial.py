"""A short run of the recipe itself, whose record says what things take.

Four small stages pass through :class:`~clbench.runner.tasks.Run` in a folder that is removed
afterwards: one that warms up, one that is short, one of more steps and images, one of larger
batches. So each part of a task has a line, by images: what it takes anyway, what an image adds.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from clbench.data.batches import Split
from clbench.estimate.memory import Memory, weigh
from clbench.machine import peak_memory, reset_peak
from clbench.models.modes import evaluating
from clbench.recipe.recipe import Recipe
from clbench.record.events import Part, TaskEvent
from clbench.runner.preflight import smallest
from clbench.runner.setup import Setup
from clbench.runner.tasks import Run
from clbench.streams import Stream

#: Samples of a batch and images of a stage at most; the seconds that they may take forwards.
BATCH, IMAGES, BRIEF = 64, 512, 0.15
STAGES = 4
#: Parts of a task that depend on its training images.
AROUND: tuple[Part, ...] = ("prepare", "finish", "deploy")


class Line(NamedTuple):
    """What grows with a number of images: what is there anyway, and what each adds."""

    fixed: float
    each: float

    @classmethod
    def through(cls, first: tuple[float, float], second: tuple[float, float]) -> Line:
        """Of two measurements; neither part is negative. Of as many images, nothing is fixed."""
        (x1, y1), (x2, y2) = first, second
        if x1 == x2:
            return cls(0.0, (y1 + y2) / (x1 + x2) if x1 else 0.0)
        each = max(0.0, (y2 - y1) / (x2 - x1))
        return cls(max(0.0, y1 - x1 * each), each)

    def of(self, images: float) -> float:
        """Of so many images; none take nothing."""
        return self.fixed + self.each * images if images > 0 else 0.0


@dataclass(frozen=True)
class Trial:
    """What a short run has found.

    Attributes:
        events: of its tasks.
        images: training images of each.
        around: seconds before the first, a task's beside its parts, and after the last.
        peak: most bytes in use.
        memory: what the network takes.
        stored: bytes in the run folder: of the weights, of all checkpoints and of the rest.
        parameters: of the network, numbers.
        device: where it ran.
    """

    events: Sequence[TaskEvent]
    images: Sequence[int]
    around: tuple[float, float, float]
    peak: int
    memory: Memory
    stored: tuple[int, int, int]
    parameters: int
    device: torch.device

    def part(self, name: Part) -> Line:
        """Seconds of a part by the task's images; of ``test`` by those that are tested."""
        took = [event.parts[name] for event in self.events[1:3]]
        images = [part.passed for part in took] if name == "test" else self.images[1:3]
        return Line.through(*zip(images, (part.seconds for part in took), strict=True))

    def fit(self, steps: int, images: float) -> float:
        """Seconds of so many steps on so many images in all; a step takes something anyway."""
        if not all(event.steps for event in self.events[1:]):  # methods let few stages train
            first = self.events[0]
            known = first.parts["fit"].seconds / first.samples if first.steps else None
            # Forwards and backwards is three times the way forwards.
            return images * (3 * self.part("test").each if known is None else known)
        short, long, wide = self.events[1:]
        seconds = [event.parts["fit"].seconds for event in (short, long, wide)]
        step = max(0.0, (seconds[1] - seconds[0]) / (long.steps - short.steps))
        start = max(0.0, seconds[0] - step * short.steps)
        each = max(0.0, seconds[2] - start) / wide.steps
        small, large = (event.parts["fit"].trained / event.steps for event in (long, wide))
        return start + steps * Line.through((small, step), (large, each)).of(images / steps)

    @property
    def passes(self) -> Line:
        """Training images that go through the network beside steps, by the task's images."""
        found = [
            sum(getattr(event.parts[name], way) for name in AROUND for way in ("trained", "passed"))
            for event in self.events[1:3]
        ]
        return Line.through(*zip(self.images[1:3], found, strict=True))

    def extra(self, behind: int) -> float:
        """Images of a step with gradients, beside its batch.

        Args:
            behind: tasks before this one; GEM passes over a memory of each.
        """
        first, second, third = (
            max(0.0, event.parts["fit"].trained - event.samples) / max(1, event.steps)
            for event in self.events[:3]
        )
        return second + max(0.0, third - second) * (behind - 1) if behind else first

    @property
    def largest(self) -> tuple[int, int]:
        """Samples of the largest batch, and images of the largest evaluation."""
        batch = max(event.samples / max(1, event.steps) for event in self.events)
        return round(batch), max(event.parts["test"].passed for event in self.events)


def try_out(recipe: Recipe, stream: Stream) -> Trial:
    """Run the recipe on a few images.

    Args:
        recipe: the run's, on one device.
        stream: its stream in outline.
    """
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        reset_peak()
        marks = [time.perf_counter()]
        setup = _short(Setup.of(_tame(recipe), Path(place), stream=stream))
        run = Run(setup, Path(place))
        marks.append(time.perf_counter())
        for stage in setup.stages:
            run.learn(stage)
            marks.append(time.perf_counter())
        run.go()  # writes what a run leaves behind
        marks.append(time.perf_counter())
        start, *whole, end = (b - a for a, b in itertools.pairwise(marks))
        record = run.recorder.record
        inside = sum(part.seconds for part in record.tasks[-1].parts.values())
        sizes = {f: f.stat().st_size for f in Path(place).rglob("*") if f.is_file()}
        weights = sum(n for f, n in sizes.items() if f.suffix == ".safetensors")
        kept = sum(n for f, n in sizes.items() if "checkpoints" in f.parts)
        return Trial(
            events=record.tasks,
            images=[len(stage.train) for stage in setup.stages],
            around=(start, whole[-1] - inside, end),
            peak=peak_memory(setup.network.device),
            memory=weigh(setup),
            stored=(weights, kept, sum(sizes.values()) - weights - kept),
            parameters=record.run.parameters,
            device=setup.network.device,
        )


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
    return recipe.model_copy(
        update={
            "trainer": trainer,
            "model": recipe.model.model_copy(update={"weights": "none"}),
            "retention": recipe.retention.model_copy(update={"data": "none"}),
            "eval_every": None,
            "evaluate": "seen",
            "name": None,
        }
    )


def _tame(recipe: Recipe) -> Recipe:
    """With a rate that lets nothing diverge, and every task alike."""
    return recipe.model_copy(
        update={
            "optimizer": recipe.optimizer.model_copy(update={"lr": 1e-9}),
            "schedule": recipe.schedule.model_copy(update={"over": "task"}),
            "per_task": {},
        }
    )


def _short(setup: Setup) -> Setup:
    """A setup cut short: stages and tests of few images, as many as the network is quick."""
    recipe, network = setup.recipe, setup.network
    least = max(2, smallest(recipe, network.model, network.head))
    quick = int(BRIEF / _seconds_of_an_image(setup))
    batch = min(recipe.batch_size, BATCH, max(least, quick // 4))
    stages = setup.stages[:STAGES]
    count = max(least, min(IMAGES, max(8, quick), *(len(stage.train) // 2 for stage in stages)))
    steps = max(1, count // batch // 4)
    wide = min(recipe.batch_size, BATCH, batch * (4 if quick > batch else 2))
    lengths = [
        *((count, 1, batch), (count, steps, batch)),
        *((2 * count, 4 * steps, batch), (count, steps, wide)),
    ]
    tests = max(2, count // 4)
    tasks = tuple(
        replace(task, test=_few(task.test, tests), validation=_few(task.validation, tests))
        for task in setup.stream.tasks[:STAGES]
    )
    stream = replace(setup.stream, tasks=tasks)
    small = [
        replace(stage, name=str(number), train=_few(stage.train, images))
        for number, (images, *_), stage in zip(
            range(STAGES), lengths, [*stages, *[stages[-1]] * STAGES], strict=False
        )
    ]
    settings = {
        str(number): {"steps": steps, "batch_size": batch}
        for number, (_, steps, batch) in enumerate(lengths)
    }
    return replace(
        setup,
        recipe=recipe.model_copy(update={"per_task": settings}),
        stream=stream,
        stages=small,
        meter=replace(setup.meter, stream=stream),
    )


def _seconds_of_an_image(setup: Setup) -> float:
    """In a small batch, forwards only; the first pass warms up."""
    network, taken = setup.network, list[float]()
    images = setup.stream.test_images.take(torch.arange(2)).to(network.device)
    inputs = setup.meter.evaluator.reader.transform.test(images)
    for _ in range(2):
        began = time.perf_counter()
        with evaluating(network.model), torch.inference_mode(), network.autocast():
            network.model(inputs).sum().item()
        taken.append(time.perf_counter() - began)
    return min(taken) / len(images)


def _few(split: Split, count: int) -> Split:
    """At most ``count`` images of a split, spread over its classes."""
    if len(split) <= count:
        return split
    chosen = torch.linspace(0, len(split) - 1, count).long()
    return Split(split.images, split.index[chosen], split.labels[chosen])
