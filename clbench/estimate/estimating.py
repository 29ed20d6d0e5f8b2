"""What a run will need, before it runs: steps, images, disk, memory and time.

Counts follow from the recipe and the sizes of its data. What things take is measured: a short run
of the recipe itself tells what a step, an image and a task take (:mod:`clbench.estimate.trial`).
Nothing is fetched, and nothing is left behind.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from clbench.estimate.absent import Retained, absent_weights, pretraining_steps, retained
from clbench.estimate.outline import Absent, Needed, outline
from clbench.estimate.trial import AROUND, BATCH, STAGES, Trial, alone, try_out
from clbench.learner.trainer import accumulated, count_steps, make_trainer, quiet
from clbench.machine import cores
from clbench.methods.base import overriding
from clbench.processes.processes import apart, device_count
from clbench.recipe.foreseen import foreseen
from clbench.recipe.recipe import Recipe, parse
from clbench.record.scopes import is_little, sentence
from clbench.runner.preflight import check_tasks, preflight
from clbench.runner.steps import batches_of_tasks, trains
from clbench.streams import Stream, Task

#: Measurements that estimates have in common, by what they depend on.
Shared = dict[str, Any]
#: What a recipe calls a GPU.
GPUS = ("gpu", "cuda")
#: What of a recipe does not change what its steps and images take.
ALIKE = (
    *("name", "seed", "epochs", "steps", "batch_size", "schedule", "per_task", "train_logits"),
    *("process_timeout", "stream", "data_dir"),
)


@dataclass(frozen=True)
class TaskEstimate:
    """What one task will need.

    Attributes:
        name: of the task.
        steps: of the optimiser.
        samples: images trained on, over all epochs and devices.
        tested: images evaluated after the task: of the tests and of the validation parts.
        curve: images evaluated while it is trained.
        retained: images of retention.
        passed: training images that go through the network beside: to probe the head, for
            Fisher information, features or running statistics.
        seconds: in all.
    """

    name: str
    steps: int
    samples: int
    tested: int
    curve: int
    retained: int
    passed: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a run will need.

    Attributes:
        title: the run's name.
        tasks: one by one.
        pretrained: images evaluated before the first task.
        start: seconds before the first task.
        end: seconds after the last.
        image: seconds to evaluate an image.
        disk: bytes by what takes them; what is there already does not count.
        memory: bytes by what takes them, on each device; ``peak`` is the most at any time.
        parameters: of the network, numbers.
        devices: how many train together.
        device: what it was measured on.
        absent: what is not on this machine.
        notes: what else the user should know.
    """

    title: str
    tasks: tuple[TaskEstimate, ...]
    pretrained: int
    start: float
    end: float
    image: float
    disk: Mapping[str, int]
    memory: Mapping[str, int]
    parameters: int
    devices: int
    device: str
    absent: tuple[Absent, ...]
    notes: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Steps of all tasks."""
        return sum(task.steps for task in self.tasks)

    @property
    def samples(self) -> int:
        """Images trained on in all tasks."""
        return sum(task.samples for task in self.tasks)

    @property
    def evaluated(self) -> int:
        """Images evaluated, those of retention included."""
        return self.pretrained + sum(t.tested + t.curve + t.retained for t in self.tasks)

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return self.start + sum(task.seconds for task in self.tasks) + self.end

    def of_try(self, tasks: int) -> float:
        """Seconds of a try of tuning: so many first tasks, without curves and retention."""
        few = self.tasks[:tasks]
        images = self.pretrained + sum(task.curve + task.retained for task in few)
        seconds = self.start + sum(task.seconds for task in few) + self.end
        return seconds - images * self.image


def estimate(recipe: Recipe | Mapping[str, Any], shared: Shared | None = None) -> Estimate:
    """Estimate what a run needs, by its sizes and a short run on one device.

    Args:
        recipe: a recipe, or its values as read from YAML.
        shared: what estimates of other recipes have measured; this one adds to it.

    Raises:
        ClbenchError: for anything that a run would refuse. Data sets and weights that are not
            there are no error: they are in ``absent``.
    """
    recipe = recipe if isinstance(recipe, Recipe) else parse(recipe)
    weights = absent_weights(recipe)
    quiet()
    with apart():
        found = _measured(recipe, {} if shared is None else shared)
    (stream, needed), (least, tried), trial = found
    keeps, world = retained(recipe, stream), devices(recipe)
    costs = Costs(trial, world, needed.each)
    tasks = tuple(_tasks(recipe, stream, keeps, costs, least))
    steps, images = pretraining_steps(recipe, stream, needed)
    ahead = [len(t.test) for t in stream.tasks if recipe.evaluate == "all"]
    start = needed.seconds + tried + trial.around[0]
    start += costs.evaluation(keeps.images) + costs.evaluation(sum(ahead), len(ahead))
    start += trial.fit(steps, images) if steps else 0.0
    start += keeps.decoded * (0.01 / cores() if needed.decode is None else needed.decode)
    memory = _memory(recipe, needed, costs, max(t.tested for t in tasks))
    saved, kept, other = trial.stored
    everywhere = recipe.checkpoints == "all"
    disk = {f"data set {absent.what}": absent.disk for absent in needed.absent}
    disk |= {
        "image caches": needed.cache + keeps.cache,
        "pretrained weights": saved * (bool(steps) or bool(weights and weights.fetched)),
        "run folder": saved + other + (kept * len(tasks) // STAGES if everywhere else kept),
    }
    return Estimate(
        title=recipe.title,
        tasks=tasks,
        pretrained=keeps.images + sum(ahead),
        start=start,
        end=trial.around[2],
        image=trial.part("test").each / world,
        disk={name: count for name, count in disk.items() if count},
        memory=memory,
        parameters=trial.parameters,
        devices=world,
        device=_named(trial.device),
        absent=(*needed.absent, *([weights] if weights else [])),
        notes=(*_notes(recipe, needed, keeps, costs, memory["peak"]), *_scopes(recipe, tasks)),
    )


def _measured(
    recipe: Recipe, shared: Shared
) -> tuple[tuple[Stream, Needed], tuple[int, float], Trial]:
    """The stream in outline, images the network needs and seconds to try it, and the trial.

    The network is tried out as a run would try it, so that it is refused as it would be there.
    """

    def once(make: Callable[[], Any], *keys: object) -> Any:
        key = json.dumps(keys, default=str)
        if key not in shared:
            shared[key] = make()
        return shared[key]

    def tried() -> tuple[int, float]:
        began = time.perf_counter()
        return preflight(own, None, make_trainer(own, 1)), time.perf_counter() - began

    own = alone(recipe)
    values = own.model_dump(mode="json")
    data = [values[key] for key in ("stream", "data_dir", "images")]
    stream, needed = once(lambda: outline(recipe), "outline", data)
    for key in ALIKE:
        del values[key]
    del values["optimizer"]["lr"]
    least = once(tried, "preflight", values, min(2, own.batch_size))
    image = stream.train_images.take(stream.tasks[0].train.index[:1]).shape
    kind = (
        *(image, stream.independent, stream.shared, len(stream.tasks), len(stream.class_names)),
        min(len(task.train) for task in stream.tasks) < BATCH,
        min(BATCH, own.batch_size),
    )
    return (stream, needed), least, once(lambda: try_out(own, stream), "trial", values, kind)


@dataclass(frozen=True)
class Costs:
    """Seconds of what a run does.

    Attributes:
        trial: what was measured.
        world: devices.
        decode: seconds to decode an image whenever it is taken.
    """

    trial: Trial
    world: int
    decode: float

    def task(self, behind: int, images: int, steps: int, samples: int) -> float:
        """Of a task without what is measured of it.

        Args:
            behind: tasks before it.
            images: that it trains on.
            steps: of the optimiser.
            samples: all images of these steps.
        """
        trial, own = self.trial, samples / self.world
        seconds = trial.around[1] + self.decode * (own + trial.passes.of(images))
        seconds += trial.fit(steps, own + steps * trial.extra(behind))
        return seconds + sum(trial.part(part).of(images) for part in AROUND)

    def evaluation(self, images: int, calls: int = 1) -> float:
        """Of evaluations of so many images in all."""
        test = self.trial.part("test")
        each = (test.each + self.decode) / self.world
        return calls * test.fixed + images * each if images else 0.0


def devices(recipe: Recipe) -> int:
    """How many devices a run trains on."""
    nodes = int(recipe.trainer.get("num_nodes", 1))
    gpus = torch.cuda.device_count() if recipe.trainer.get("accelerator") != "cpu" else 0
    return nodes * (device_count(recipe.trainer.get("devices", "auto")) or max(1, gpus))


def _tasks(
    recipe: Recipe, stream: Stream, keeps: Retained, costs: Costs, least: int
) -> Iterator[TaskEstimate]:
    """Walk the stages of a run as :class:`~clbench.runner.tasks.Run` does."""
    stages: Sequence[Task] = stream.tasks
    for method in overriding(list(recipe.methods.values()), "arrange"):
        stages = method.arrange(stages)
    check_tasks(recipe, stages, least)
    last = 0
    lengths = (
        _length(rules, [sum(p) for p in batches.sizes()]) if trains(rules, number) else (0, 0)
        for number, (rules, batches) in enumerate(batches_of_tasks(recipe, stages, least), 1)
    )
    for number, (stage, (steps, samples)) in enumerate(zip(stages, lengths, strict=True)):
        tests = [t for t in stream.tasks if t.index <= stage.index]
        later = [t for t in stream.tasks if t.index > stage.index and recipe.evaluate == "all"]
        if stream.independent:
            tests = [stage]
        test = sum(len(t.test) for t in tests)
        held = [len(t.validation) for t in tests]
        points = 0
        if recipe.eval_every:
            points = (last + steps) // recipe.eval_every - last // recipe.eval_every
        last += steps
        tested, curve = test + (sum(held) if all(held) else 0), points * test
        ahead = sum(len(t.test) for t in later)
        images = len(stage.train)
        yield TaskEstimate(
            name=stage.name,
            steps=steps,
            samples=samples,
            tested=tested + ahead,
            curve=curve,
            retained=keeps.images,
            passed=round(costs.trial.passes.of(images)),
            seconds=costs.task(number, images, steps, samples)
            + costs.evaluation(tested)
            + costs.evaluation(ahead, len(later))
            + costs.evaluation(curve, points)
            + costs.evaluation(keeps.images),
        )


def _length(recipe: Recipe, sizes: Sequence[int]) -> tuple[int, int]:
    """Optimiser steps of a task, and the samples they see.

    Args:
        recipe: the task's own settings.
        sizes: of the batches of an epoch.
    """
    steps = count_steps(recipe, len(sizes))
    if recipe.epochs is not None:
        return steps, recipe.epochs * sum(sizes)
    accumulate = accumulated(recipe)
    # The last step of an epoch takes the batches that are left.
    epochs, rest = divmod(steps, -(-len(sizes) // accumulate))
    return steps, epochs * sum(sizes) + sum(sizes[: rest * accumulate])


def _memory(recipe: Recipe, needed: Needed, costs: Costs, tested: int) -> dict[str, int]:
    """The most at any time, from what the trial took and what more there will be.

    That is in a step, or after a task, when the copies of the weights are more.
    """
    trial = costs.trial
    taken, size = trial.memory, trial.memory.parts["parameters"]
    near = sum(method.needs.copies for method in recipe.methods.values())
    on_cpu = trial.device.type == "cpu"
    # θ_* and θ_o; after a task also the weights it began with, as trained, to go on from, and to
    # show. On a GPU, anchors are beside the network if a method reads them, and the rest never.
    anchors, handed = (2, 4) if on_cpu else (2 * bool(near), 0)

    def activations(batch: int) -> int:
        return int((taken.saved + taken.largest) * batch)

    def most(batch: int, images: int) -> int:
        evaluated = int(3 * taken.largest * min(images, recipe.eval_batch_size))
        return max(activations(batch) + size * (handed > 0), evaluated + handed * size)

    batch = -(-recipe.batch_size // costs.world)
    more = most(batch, tested) - most(*trial.largest)
    peak = trial.peak + max(0, more) + needed.memory
    return taken.parts | {
        "anchors": anchors * size,
        "methods": max(taken.parts["methods"], (near - anchors) * size),
        "images": needed.memory,
        "activations": activations(batch),
        "peak": max(peak, trial.peak + 2 * needed.memory),
    }


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _notes(
    recipe: Recipe, needed: Needed, keeps: Retained, costs: Costs, peak: int
) -> Iterator[str]:
    if needed.absent:
        names = ", ".join(absent.what for absent in needed.absent)
        yield f"sizes of {names} are the well-known ones; images were made up"
    room = available(costs.trial.device)
    if peak > room:
        yield f"{peak / 1e9:.1f} GB is more than the {room / 1e9:.1f} GB here: lower batch_size"
    if costs.trial.device.type == "cpu" and recipe.trainer.get("accelerator") in GPUS:
        yield "there is no GPU here: time and memory are those of the CPU"
    if costs.world > 1:
        yield f"{costs.world} devices: measured on one; memory is that of each"
    if keeps.note:
        yield keeps.note


def _scopes(recipe: Recipe, tasks: Sequence[TaskEstimate]) -> Iterator[str]:
    """Methods that could do next to nothing, as far as settings tell; a mean over the tasks."""
    scopes = foreseen(recipe, [(task.name, task.steps) for task in tasks])
    for name, scope in scopes.items():
        if is_little(scope):
            yield sentence(name, scope, recipe.methods[name].scope_means)


def available(device: torch.device) -> int:
    """Bytes of memory that the device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
