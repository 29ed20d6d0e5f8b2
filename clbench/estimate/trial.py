"""A short run of the recipe itself, whose record says what things take.

Four small stages pass through :class:`~clbench.runner.tasks.Run` in a folder that is removed
afterwards: one that warms up, one that is short, one of more steps and images, one of larger
batches. So it shows what each part of a task takes anyway, and what an image or a step adds.
"""

from __future__ import annotations

import copy
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from clbench.data.batches import Split
from clbench.files.disk import writing_to
from clbench.machine import has_bfloat16, peak_memory, reset_peak
from clbench.models.activations import kept_backward
from clbench.models.modes import checkpoint_gradients
from clbench.recipe.recipe import Recipe
from clbench.record.events import Part, TaskEvent, Took
from clbench.record.record import Record
from clbench.runner.compiling import settled
from clbench.runner.preflight import as_trained, one_process
from clbench.runner.setup import Setup
from clbench.runner.tasks import Run
from clbench.streams import Stream
from clbench.weights import bytes_in

#: Samples of a batch and images of a stage at most; the seconds that they may take forwards.
BATCH, IMAGES, BRIEF = 64, 512, 0.15
STAGES = 4
#: Parts of a task that depend on its training images.
AROUND: tuple[Part, ...] = ("prepare", "finish", "deploy")
ROOM = "set TMPDIR to a folder"


@dataclass(frozen=True)
class Trial:
    """What a short run has found."""

    record: Record
    images: Sequence[int]  # training images of each of its tasks
    least: int  # images that the network needs at a time
    start: float  # seconds before the first task
    beside: float  # seconds of a task that are in none of its parts
    end: float  # seconds after the last task
    peak: int  # most bytes in use
    optimizer: int  # bytes of its state
    saved: float  # bytes that an image of a batch has kept for the backward pass
    largest: float  # those of the largest tensor among them
    weights: int  # bytes of all checkpoints
    files: int  # bytes of the rest of the run folder
    image_bytes: int  # of a stored image
    device: torch.device  # where it ran
    world: int = 1  # devices of the run that is estimated

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by what takes them, whatever the batch: weights are of four bytes each."""
        size, last = 4 * self.record.run.parameters, self.tasks[-1].footprint.values()
        near = sum(int(one.weight_copies) for one in last)
        # θ_* and θ_o; on a GPU they are beside the network if a method reads them.
        anchors = 2 if self.device.type == "cpu" or near else 0
        own = sum(one.stored_bytes - one.stored_samples * self.image_bytes for one in last)
        return {
            "parameters": size,
            "gradients": 4 * max(e.modes.trained_parameters for e in self.tasks if e.modes),
            "optimizer": self.optimizer,
            "anchors": anchors * size,
            "methods": max((near - anchors) * size, int(own)),
        }

    @property
    def tasks(self) -> Sequence[TaskEvent]:
        """Its tasks as they were recorded."""
        return self.record.tasks

    def task(self, behind: int, images: int, steps: int, samples: int) -> float:
        """Seconds of a task, but for its tests.

        Args:
            behind: tasks before it.
            images: that it trains on.
            steps: of the optimiser.
            samples: all images of these steps.
        """
        around = self._around(images, lambda part: part.seconds)
        return (
            self.beside
            + around
            + self.fit(steps, samples / self.world + steps * self.extra(behind))
        )

    def fit(self, steps: int, images: float) -> float:
        """Seconds of so many steps on so many images in all."""
        trained = [event for event in self.tasks[1:] if event.steps]
        # Methods may let the first stage be trained alone, or none.
        fits = [(e.steps, e.parts["fit"]) for e in trained or self.tasks[:1]]
        known = [(count, fit.trained) for count, fit in fits]
        return grown(known, [fit.seconds for _, fit in fits], steps, images)

    def test(self, images: float) -> float:
        """Seconds of a test on so many images."""
        tests = [event.parts["test"] for event in self.tasks[1:3]]
        took = [test.seconds for test in tests]
        return grown([(test.passed,) for test in tests], took, images) / self.world

    def passed(self, images: int) -> float:
        """Images that go through the network beside steps, in a task of so many."""
        return self._around(images, lambda part: part.trained + part.passed)

    def extra(self, behind: int) -> float:
        """Images of a step beside its batch, after so many tasks: GEM has a memory of each."""
        fits = [(event, event.parts["fit"].trained) for event in self.tasks[1:3]]
        found = [(trained - event.samples) / max(1, event.steps) for event, trained in fits]
        return grown([(1,), (2,)], found, behind)

    def _around(self, images: int, of: Callable[[Took], float]) -> float:
        """Of the parts that depend on the training images of a task."""
        took = [sum(of(event.parts[part]) for part in AROUND) for event in self.tasks[1:3]]
        return grown([(count,) for count in self.images[1:3]], took, images)


def grown(known: Sequence[tuple[float, ...]], took: Sequence[float], *wanted: float) -> float:
    """What amounts will take: something anyway and something for each, neither of it negative.

    Args:
        known: amounts that were measured.
        took: what they took.
        wanted: the amounts to tell of; of 0 nothing is taken.

    >>> round(grown([(2,), (16,)], [0.08, 0.22], 100), 6)  # 0.06 anyway, and 0.01 for each
    1.06
    """
    if not wanted[-1]:
        return 0.0
    rates, _ = nnls(np.array([(1.0, *amounts) for amounts in known]), np.array(took))
    return float(rates @ (1.0, *wanted))


def try_out(recipe: Recipe, stream: Stream) -> Trial:
    """Run the recipe on a few images, in a temporary folder.

    Args:
        recipe: the run's, as :func:`alone` has it.
        stream: its stream in outline.

    Raises:
        ClbenchError: for a network that a run would refuse, or no room in the folder.
    """
    states = [0]

    def weigh(optimizer: Optimizer, *_: Any) -> None:
        states.append(bytes_in(list(optimizer.state.values())))

    quiet, place = redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory()
    with place as name, writing_to(Path(name), "try again", ROOM), quiet:
        reset_peak()
        folder, marks = Path(name), [time.perf_counter()]
        setup = Setup.of(recipe, folder, tries=True, stream=stream, elsewhere=ROOM)
        seconds, saved, largest = _forwards(setup)
        setup = _short(setup, int(BRIEF / seconds))
        run = Run(setup, folder)
        marks.append(time.perf_counter())
        with register_optimizer_step_post_hook(weigh):
            run.learn(setup.stages)
        marks.append(time.perf_counter())
        run.go()  # writes what a run leaves behind
        marks.append(time.perf_counter())
        sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    record, (start, learned, end) = run.recorder.record, (b - a for a, b in pairwise(marks))
    weights = sum(size for path, size in sizes.items() if "checkpoints" in path.parts)
    inside = sum(part.seconds for event in record.tasks for part in event.parts.values())
    return Trial(
        record=record,
        images=[len(stage.train) for stage in setup.stages],
        least=setup.least,
        start=start,
        beside=(learned - inside) / STAGES,
        end=end,
        peak=peak_memory(setup.network.device),
        optimizer=max(states),
        saved=saved,
        largest=largest,
        weights=weights,
        files=sum(sizes.values()) - weights,
        image_bytes=setup.image_bytes,
        device=setup.network.device,
    )


def emulated(recipe: Recipe) -> bool:
    """Whether the recipe asks for bfloat16 or float16 where no hardware has either.

    A convolution takes a hundred times as long then: a trial would take hours.
    """
    mixed = "16" in str(recipe.trainer.get("precision", "32"))
    return mixed and not torch.cuda.is_available() and not has_bfloat16(torch.device("cpu"))


def alone(recipe: Recipe) -> Recipe:
    """The recipe for one process here, with random weights and all tasks alike; no retention."""
    here = dict[str, Any]()
    if not torch.cuda.is_available():
        if recipe.trainer.get("accelerator") in ("gpu", "cuda"):
            here["accelerator"] = "cpu"
        if emulated(recipe):
            here["precision"] = "32-true"
        elif str(recipe.trainer.get("precision", "32")).startswith("16"):
            here["precision"] = "bf16-mixed"
    update: dict[str, Any] = {
        "model": settled(recipe, None).model.model_copy(update={"weights": "none"}),
        "retention": recipe.retention.model_copy(update={"data": "none", "sets": {}}),
        "schedule": recipe.schedule.model_copy(update={"over": "task"}),
        "loggers": {name: one for name, one in recipe.loggers.items() if name == "tensorboard"},
    }
    update |= {"representation": type(recipe.representation)()}
    update |= {"per_task": {}, "eval_every": None, "evaluate": "seen", "name": None}
    return one_process(recipe.model_copy(update=update), **here)


def _short(setup: Setup, quick: int) -> Setup:
    """A setup cut short: stages and tests of so many images as the network is quick."""
    size, least = setup.recipe.batch_size, max(2, setup.least)
    batch = min(size, BATCH, max(least, quick // 4))
    wide = min(size, BATCH, batch * (4 if quick > batch else 2))
    stages = [*setup.stages, *[setup.stages[-1]] * STAGES][:STAGES]
    count = max(least, min(IMAGES, max(8, quick), *(len(stage.train) // 2 for stage in stages)))
    steps, tests = max(1, count // batch // 4), max(2, count // 4)
    tasks = tuple(
        replace(task, test=_few(task.test, tests), validation=_few(task.validation, tests))
        for task in setup.stream.tasks[:STAGES]
    )
    stream = replace(setup.stream, tasks=tasks)
    last = tasks[-1]
    small = [
        replace(
            stage,
            index=min(stage.index, last.index),
            name=str(number),
            train=_few(_up_to(stage.train, last.classes.stop), count * (1 + (number == 2))),
        )
        for number, stage in enumerate(stages)
    ]
    lengths = ((1, batch), (steps, batch), (4 * steps, batch), (steps, wide))
    per_task = {str(n): {"steps": s, "batch_size": b} for n, (s, b) in enumerate(lengths)}
    recipe = setup.recipe.model_copy(update={"per_task": per_task})
    meter = replace(setup.meter, stream=stream)
    return replace(setup, recipe=recipe, stream=stream, stages=small, meter=meter)


def _up_to(split: Split, classes: int) -> Split:
    """What a split has of the first classes: a stage of all tasks at once has those of others."""
    known = split.labels < classes
    return split if known.all() else Split(split.images, split.index[known], split.labels[known])


def _few(split: Split, count: int) -> Split:
    """At most ``count`` images of a split, spread over its classes."""
    chosen = torch.linspace(0, len(split) - 1, min(count, len(split))).long()
    return Split(split.images, split.index[chosen], split.labels[chosen])


def _forwards(setup: Setup) -> tuple[float, float, float]:
    """Of an image in a small batch: seconds, bytes kept for the way back, in the largest tensor."""
    network, found = setup.network, list[list[int]]()
    images = setup.stream.test_images.take(torch.arange(4)).to(network.device)
    inputs = network.transform(setup.recipe).test(images)
    model = as_trained(setup.recipe, copy.deepcopy(network.model)).train()
    if setup.recipe.model.checkpointing:
        checkpoint_gradients(model, True)
    for count in (2, 4):  # the first pass warms up
        began = time.perf_counter()
        with network.autocast():
            found.append(kept_backward(model, inputs[:count]))
        seconds = (time.perf_counter() - began) / count
    few, more = found
    return seconds, max(0, sum(more) - sum(few)) / 2, max([*more, 0]) / 4
