"""What a run will need, before it runs: steps, images, disk, memory and time.

Counts follow from the recipe and the sizes of its data. Costs are measured: a short run of a tiny
network tells what a run does beside its own network and how many images it sends through it
(:mod:`clbench.estimate.trial`), a few steps of the network what these cost
(:mod:`clbench.estimate.speed`). Nothing is fetched, and nothing is left behind.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from clbench.data.batches import Batches, Examples, Mixed
from clbench.estimate.absent import Retained, absent_weights, pretraining_steps, retained
from clbench.estimate.outline import Absent, Outline, outline
from clbench.estimate.speed import Speed, measure
from clbench.estimate.trial import STAGES, Overheads, alone, try_out
from clbench.learner.trainer import accumulated, count_steps, make_trainer, quiet
from clbench.machine import cores
from clbench.methods.base import overriding
from clbench.processes.processes import apart, device_count
from clbench.recipe.foreseen import foreseen
from clbench.recipe.recipe import Recipe, parse
from clbench.record.scopes import is_little, sentence
from clbench.runner.preflight import check_tasks, preflight
from clbench.streams import Stream, Task

#: Measurements that estimates have in common, by what they depend on.
Shared = dict[str, Any]
#: Hooks that pass over the weights in every step.
PER_STEP = ("penalty", "project", "after_step")
#: Hooks that change what of the network is trained, and how.
CHANGING = ("surgery", "trainable", "optimizer")
#: What a recipe calls a GPU.
GPUS = ("gpu", "cuda")
#: Passes over the weights around a task.
COPIED = 12


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
    """Estimate what a run needs, by its sizes and short measurements on one device.

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
        sketch, least, beside, speed = _measured(recipe, {} if shared is None else shared)
    keeps, world = retained(recipe, sketch), devices(recipe)
    costs = Costs(recipe, beside, speed, world, sketch.each)
    tasks = tuple(_tasks(recipe, sketch.stream, keeps, costs, least))
    steps, images = pretraining_steps(recipe, sketch)
    start = sketch.seconds + beside.start + speed.make + 3 * speed.copy
    start += sum(source.seconds for source in sketch.sources)
    if steps:
        start += steps * (speed.pace.train.of(images / steps) + speed.update)
    start += keeps.decoded * _decoding(sketch) + costs.evaluation(keeps.images)
    ahead = [len(t.test) for t in sketch.stream.tasks] if recipe.evaluate == "all" else []
    start += costs.evaluation(sum(ahead), len(ahead))
    memory = _memory(recipe, sketch, costs, max(t.tested for t in tasks))
    return Estimate(
        title=recipe.title,
        tasks=tasks,
        pretrained=keeps.images + sum(ahead),
        start=start,
        end=beside.end + speed.write,
        image=speed.pace.test.each / world,
        disk=_disk(recipe, sketch, keeps, costs, len(tasks), bool(steps), weights),
        memory=memory,
        parameters=speed.parameters,
        devices=world,
        device=_named(speed.device),
        absent=(*sketch.absent, *([weights] if weights else [])),
        notes=(*_notes(sketch, keeps, costs, memory["peak"]), *_scopes(recipe, tasks)),
    )


def _measured(recipe: Recipe, shared: Shared) -> tuple[Outline, int, Overheads, Speed]:
    """The stream in outline, images the network needs, what a run does beside it, and the network.

    The network is tried out as a run would try it, so that it is refused as it would be there.
    """

    def once(make: Callable[[], Any], *keys: object) -> Any:
        key = json.dumps(keys, default=str)
        if key not in shared:
            shared[key] = make()
        return shared[key]

    own = alone(recipe)
    values = own.model_dump(mode="json")
    data = [values.pop(key) for key in ("stream", "data_dir", "images")]
    sketch: Outline = once(lambda: outline(recipe), "outline", *data)
    stream = sketch.stream
    for key in ("seed", "epochs", "steps", "schedule", "per_task"):
        del values[key]
    del values["optimizer"]["lr"]
    network = [values["model"].pop(key) for key in ("backbone", "options", "channels_last")]
    changed = {
        name: settings
        for name, settings in values["methods"].items()
        if any(overriding([own.methods[name]], hook) for hook in CHANGING)
    }
    least: int = once(
        lambda: preflight(own, None, make_trainer(own, 1)),
        "preflight",
        network,
        [values[key] for key in ("augment", "optimizer", "trainer")],
        data[2],
        changed,
        min(2, own.batch_size),
    )
    kind = stream.independent, min(STAGES, len(stream.tasks))
    beside: Overheads = once(lambda: try_out(own, stream), "trial", values, kind)
    # Memory that earlier networks have left to the process is not that of this run.
    beside = replace(beside, peak=once(lambda: beside.peak, "peak"))
    surgeons = overriding(beside.methods, "surgery") + overriding(beside.methods, "optimizer")
    speed: Speed = once(
        lambda: measure(own, stream, beside.methods, beside.trunk),
        "network",
        network,
        [values[key] for key in ("augment", "optimizer", "trainer")],
        data[2],
        stream.train_images.take(stream.tasks[0].train.index[:1]).shape,
        [method.model_dump(mode="json") for method in surgeons],
        beside.trunk,
    )
    return sketch, least, beside, speed


@dataclass(frozen=True)
class Costs:
    """Seconds of what a run does.

    Attributes:
        recipe: the run's.
        beside: what it does beside its network.
        speed: its network.
        world: devices.
        decode: seconds to decode an image whenever it is taken.
    """

    recipe: Recipe
    beside: Overheads
    speed: Speed
    world: int
    decode: float

    def step(self, behind: int, samples: float) -> float:
        """Of a step, on batches of so many samples, after so many tasks."""
        count, train = self.beside.accumulated, self.speed.pace.train
        step = self.beside.step(behind, samples)
        seconds = step.seconds + self.speed.update
        seconds += count * (train.of(samples) + samples * self.decode)
        seconds += train.of(step.trained) + self.speed.pace.test.of(step.passed)
        hooks = (overriding(self.beside.methods, hook) for hook in PER_STEP)
        return seconds + 2 * self.speed.copy * sum(map(len, hooks))

    def part(self, name: str, images: int) -> float:
        """Of what comes before (``prepare``) or after (``rest``) a task's steps."""
        part, pace = self.beside.part(name, images), self.speed.pace
        taken = (part.trained + part.passed) * self.decode
        return part.seconds + part.trained * pace.train.each + part.passed * pace.test.each + taken

    def evaluation(self, images: int, calls: int = 1) -> float:
        """Of evaluations of so many images in all."""
        if not images:
            return 0.0
        test, batch = self.speed.pace.test, self.recipe.eval_batch_size
        batches = calls * math.ceil(images / calls / self.world / batch)
        each = (test.each + self.decode) / self.world
        return calls * self.beside.call + batches * test.fixed + images * each

    @property
    def stored(self) -> float:
        """Copies of the weights that the checkpoint of a task holds."""
        tasks = STAGES if self.recipe.checkpoints == "all" else 1
        return max(0.0, self.beside.stored - 1) / tasks

    @property
    def around(self) -> float:
        """Of what is done with the weights around a task: copies, distances, a checkpoint."""
        return COPIED * self.speed.copy + self.stored * self.speed.write


def devices(recipe: Recipe) -> int:
    """How many devices a run trains on."""
    nodes = int(recipe.trainer.get("num_nodes", 1))
    gpus = torch.cuda.device_count() if recipe.trainer.get("accelerator") != "cpu" else 0
    return nodes * (device_count(recipe.trainer.get("devices", "auto")) or max(1, gpus))


def _tasks(
    recipe: Recipe, stream: Stream, keeps: Retained, costs: Costs, least: int
) -> Iterator[TaskEstimate]:
    """Walk the stages of a run as :class:`~clbench.runner.runner.Run` does."""
    stages: Sequence[Task] = stream.tasks
    for method in overriding(list(recipe.methods.values()), "arrange"):
        stages = method.arrange(stages)
    check_tasks(recipe, stages, least)
    accumulate, last = costs.beside.accumulated, 0
    for number, stage in enumerate(stages):
        rules = recipe.for_task(stage.name)
        mixed = [Mixed(stage.train, share) for share in costs.beside.mixed if number]
        steps, samples = length(rules, Examples(stage.train, tuple(mixed)), least)
        tests = [t for t in stream.tasks if t.index <= stage.index]
        later = (
            [t for t in stream.tasks if t.index > stage.index] if rules.evaluate == "all" else []
        )
        if stream.independent:
            tests = [stage]
        test = sum(len(t.test) for t in tests)
        held = [len(t.validation) for t in tests]
        points = 0
        if recipe.eval_every:
            points = (last + steps) // recipe.eval_every - last // recipe.eval_every
        last += steps
        tested, curve = test + (sum(held) if all(held) else 0), points * test
        tested += sum(len(t.test) for t in later)
        images = len(stage.train)
        yield TaskEstimate(
            name=stage.name,
            steps=steps,
            samples=samples,
            tested=tested,
            curve=curve,
            retained=keeps.images,
            passed=costs.beside.passed(images),
            seconds=costs.part("prepare", images)
            + costs.beside.fit
            + steps * costs.step(number, samples / steps / accumulate / costs.world)
            + costs.part("rest", images)
            + costs.evaluation(tested, 1 + all(held) + len(later))
            + costs.evaluation(curve, points)
            + costs.evaluation(keeps.images)
            + costs.around,
        )


def length(recipe: Recipe, examples: Examples, least: int = 1) -> tuple[int, int]:
    """Optimiser steps of a task, and the samples they see.

    Args:
        recipe: the task's own settings.
        examples: what the task trains on.
        least: images that the network needs at a time.
    """
    batches = Batches(examples, recipe.batch_size, (0,), least=least)
    sizes = [sum(parts) for parts in batches.sizes()]
    steps = count_steps(recipe, len(sizes))
    if recipe.epochs is not None:
        return steps, recipe.epochs * sum(sizes)
    accumulate = accumulated(recipe)
    # The last step of an epoch takes the batches that are left.
    epochs, rest = divmod(steps, -(-len(sizes) // accumulate))
    return steps, epochs * sum(sizes) + sum(sizes[: rest * accumulate])


def _disk(
    recipe: Recipe,
    sketch: Outline,
    keeps: Retained,
    costs: Costs,
    tasks: int,
    pretrains: bool,
    weights: Absent | None,
) -> dict[str, int]:
    size = costs.speed.bytes["parameters"]
    caches = sum(s.bytes for s in sketch.sources if s.kept == "cache" and not s.there)
    stored = costs.stored * (tasks if recipe.checkpoints == "all" else 1)
    disk = {f"data set {absent.what}": absent.disk for absent in sketch.absent}
    disk |= {
        "image caches": caches + keeps.cache,
        "pretrained weights": size * (pretrains or bool(weights and weights.fetched)),
        "run folder": costs.beside.other + int((1 + stored) * size),
    }
    return {name: count for name, count in disk.items() if count}


def _memory(recipe: Recipe, sketch: Outline, costs: Costs, tested: int) -> dict[str, int]:
    """The most at any time: in a step, or after a task, when the copies of the weights are more."""
    speed, beside = costs.speed, costs.beside
    size = speed.bytes["parameters"]
    images = sum(source.bytes for source in sketch.sources if source.kept == "memory")
    batch = -(-recipe.batch_size // costs.world)
    near = sum(method.needs.copies for method in beside.methods)
    on_cpu = speed.device.type == "cpu"
    # θ_* and θ_o; after a task also the weights it began with, as trained, to go on from, and to
    # show. On a GPU, anchors are beside the network if a method reads them, and the rest never.
    anchors, handed = (2, 4) if on_cpu else (2 * bool(near), 0)
    memory = speed.bytes | {
        "anchors": anchors * size,
        "methods": int(max(beside.copies, near - anchors) * size),
        "images": images,
        "activations": int(speed.saved.of(batch) + speed.largest * batch),
    }
    rest = beside.peak + sum(memory[name] for name in memory if name != "activations")
    evaluated = int(3 * speed.largest * min(tested, recipe.eval_batch_size))
    step = memory["activations"] + size * (handed > 0)
    after = evaluated + handed * size
    return memory | {"peak": max(rest + max(step, after), beside.peak + 2 * images)}


def _decoding(sketch: Outline) -> float:
    """Seconds to decode a photograph; a guess where the stream has none to measure."""
    decoded = [s for s in sketch.sources if s.kept == "cache" and s.seconds]
    return 0.01 / cores() if not decoded else decoded[0].seconds / max(1, decoded[0].count)


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _notes(sketch: Outline, keeps: Retained, costs: Costs, peak: int) -> Iterator[str]:
    if sketch.absent:
        names = ", ".join(absent.what for absent in sketch.absent)
        yield f"sizes of {names} are the well-known ones; images were made up"
    room = available(costs.speed.device)
    if peak > room:
        yield f"{peak / 1e9:.1f} GB is more than the {room / 1e9:.1f} GB here: lower batch_size"
    if costs.speed.device.type == "cpu" and costs.recipe.trainer.get("accelerator") in GPUS:
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
