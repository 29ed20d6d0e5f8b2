"""What a run will need, before it runs: steps, images, disk, memory and time.

Counts follow from the recipe and the sizes of its data; costs are measured in a short trial
(:mod:`clbench.trial`). Nothing is fetched, and nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from clbench.data.batches import Batches, Examples
from clbench.errors import ClbenchError
from clbench.launch import cores
from clbench.method import Method, overriding
from clbench.needs import Retained, absent_weights, pretraining_steps, retained
from clbench.outline import Absent, Outline, outline
from clbench.recipe import Recipe, parse
from clbench.streams import Stream, Task
from clbench.trainer import count_steps
from clbench.trial import Costs, try_out


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
        pretrained: images of retention before the first task.
        start: seconds before the first task.
        end: seconds after the last.
        disk: bytes by what takes them; what is there already does not count.
        memory: bytes by what takes them, on each device; ``peak`` is the most at any time.
        parameters: of the network, numbers.
        devices: how many train together.
        device: what the trial ran on.
        batch: samples of the trial's batches.
        absent: what is not on this machine.
        notes: what else the user should know.
    """

    title: str
    tasks: tuple[TaskEstimate, ...]
    pretrained: int
    start: float
    end: float
    disk: Mapping[str, int]
    memory: Mapping[str, int]
    parameters: int
    devices: int
    device: str
    batch: int
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


def estimate(recipe: Recipe | Mapping[str, Any], seconds: float = 10.0) -> Estimate:
    """Estimate what a run needs, by its sizes and a short trial on one device.

    Args:
        recipe: a recipe, or its values as read from YAML.
        seconds: about how long the trial may take, start-up not counted.

    Raises:
        ClbenchError: for anything that a run would refuse. Data sets and weights that are not
            there are no error: they are in ``absent``.
    """
    recipe = recipe if isinstance(recipe, Recipe) else parse(recipe)
    weights = absent_weights(recipe)
    sketch = outline(recipe)
    keeps = retained(recipe, sketch)
    world = devices(recipe)
    costs, fits = _costs(recipe, sketch.stream, -(-recipe.batch_size // world), seconds)
    tasks = tuple(_tasks(recipe, sketch.stream, keeps, costs, world))
    steps, images = pretraining_steps(recipe, sketch)
    start = sketch.seconds + costs.start + sum(source.seconds for source in sketch.sources)
    if steps:
        start += steps * costs.step(True, images / steps, 0.0)
    if keeps.decoded:
        start += keeps.decoded * _decoding(sketch)
    start += keeps.images * costs.evaluated / world
    return Estimate(
        title=recipe.title,
        tasks=tasks,
        pretrained=keeps.images,
        start=start,
        end=costs.end,
        disk=_disk(recipe, sketch, keeps, costs, bool(steps), weights),
        memory=_memory(sketch, costs),
        parameters=costs.parameters,
        devices=world,
        device=_named(costs.device),
        batch=costs.batch,
        absent=(*sketch.absent, *([weights] if weights else [])),
        notes=tuple(_notes(recipe, sketch, keeps, costs, world, fits)),
    )


def _costs(recipe: Recipe, stream: Stream, batch: int, seconds: float) -> tuple[Costs, bool]:
    """The trial's costs, and whether a batch fits into the GPU's memory."""
    most = batch
    while True:
        try:
            return try_out(recipe, stream, batch, seconds, most), most == batch
        except torch.cuda.OutOfMemoryError as error:
            if most == 1:
                raise ClbenchError(
                    f"{recipe.title} does not fit into the GPU's memory even with batch_size: 1"
                ) from error
            torch.cuda.empty_cache()
            most = max(1, most // 4)


def devices(recipe: Recipe) -> int:
    """How many devices a run trains on."""
    wanted = recipe.trainer.get("devices", "auto")
    nodes = int(recipe.trainer.get("num_nodes", 1))
    gpus = torch.cuda.device_count() if recipe.trainer.get("accelerator") != "cpu" else 0
    if isinstance(wanted, list | tuple):
        return nodes * len(wanted)
    if str(wanted).isdigit() and int(wanted):
        return nodes * int(wanted)
    if isinstance(wanted, str) and "," in wanted:
        return nodes * len([name for name in wanted.split(",") if name.strip()])
    return nodes * max(1, gpus)


def _tasks(
    recipe: Recipe, stream: Stream, keeps: Retained, costs: Costs, world: int
) -> Iterator[TaskEstimate]:
    """Walk the stages of a run as :class:`~clbench.runner.Run` does."""
    stages: Sequence[Task] = stream.tasks
    for method in overriding(costs.methods, "arrange"):
        stages = method.arrange(stages)
    passes = _passes(recipe, stages, costs)
    accumulate = int(recipe.trainer.get("accumulate_grad_batches", 1))
    last = 0
    for number, stage in enumerate(stages):
        rules = recipe.for_task(stage.name)
        fresh = [method.model_copy(deep=True) for method in recipe.methods.values()]
        examples = Examples(stage.train)
        # After the trial, methods have a past to mix in.
        for method in overriding(costs.methods if number else fresh, "examples"):
            examples = method.examples(examples)
        steps, samples = length(rules, examples)
        tests = [t for t in stream.tasks if t.index <= stage.index]
        if stream.independent:
            tests = [stage]
        test = sum(len(t.test) for t in tests)
        held = [len(t.validation) for t in tests]
        points = 0
        if recipe.eval_every:
            points = (last + steps) // recipe.eval_every - last // recipe.eval_every
        last += steps
        tested, curve = test + (sum(held) if all(held) else 0), points * test
        each = costs.step(not number, samples / steps / accumulate / world, passes[number])
        images = len(stage.train)
        yield TaskEstimate(
            name=stage.name,
            steps=steps,
            samples=samples,
            tested=tested,
            curve=curve,
            retained=keeps.images,
            passed=costs.passed(images),
            seconds=costs.part("prepare", images)
            + costs.overhead
            + steps * each
            + costs.part("rest", images)
            + (tested + curve + keeps.images) * costs.evaluated / world,
        )


def length(recipe: Recipe, examples: Examples) -> tuple[int, int]:
    """Optimiser steps of a task, and the samples they see.

    Args:
        recipe: the task's own settings.
        examples: what the task trains on.
    """
    sizes = [sum(parts) for parts in Batches(examples, recipe.batch_size, (0,)).sizes()]
    steps = count_steps(recipe, len(sizes))
    if recipe.epochs is not None:
        return steps, recipe.epochs * sum(sizes)
    accumulate = int(recipe.trainer.get("accumulate_grad_batches", 1))
    # The last step of an epoch takes the batches that are left.
    epochs, rest = divmod(steps, -(-len(sizes) // accumulate))
    return steps, epochs * sum(sizes) + sum(sizes[: rest * accumulate])


def _passes(recipe: Recipe, stages: Sequence[Task], costs: Costs) -> list[float]:
    """Extra passes a step in each stage, of the methods whose passes grow with their memory."""
    settings = list(recipe.methods.values())
    growing: list[Method] = [settings[i].model_copy(deep=True) for i in costs.growing]
    found = []
    for stage in stages:
        context = replace(costs.context, task=stage, batch_size=costs.batch)
        for method in growing:
            method.start(context)
        found.append(sum(method.needs.passes for method in growing))
        for method in growing:
            method.finish(context)
    return found


def _disk(
    recipe: Recipe,
    sketch: Outline,
    keeps: Retained,
    costs: Costs,
    pretrains: bool,
    weights: Absent | None,
) -> dict[str, int]:
    size = costs.bytes["parameters"]
    caches = sum(s.bytes for s in sketch.sources if s.kept == "cache" and not s.there)
    disk = {f"data set {absent.what}": absent.disk for absent in sketch.absent}
    disk |= {
        "image caches": caches + keeps.cache,
        "pretrained weights": size * (pretrains or bool(weights and weights.fetched)),
        "run folder": costs.bytes["run folder"],
    }
    return {name: count for name, count in disk.items() if count}


def _memory(sketch: Outline, costs: Costs) -> dict[str, int]:
    images = sum(source.bytes for source in sketch.sources if source.kept == "memory")
    names = ("parameters", "gradients", "optimizer", "anchors", "methods")
    memory = {name: costs.bytes[name] for name in names} | {"images": images}
    return memory | {"peak": costs.peak + images}


def _decoding(sketch: Outline) -> float:
    """Seconds to decode a photograph; a guess where the stream has none to measure."""
    decoded = [s for s in sketch.sources if s.kept == "cache" and s.seconds]
    return 0.01 / cores() if not decoded else decoded[0].seconds / max(1, decoded[0].count)


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _notes(
    recipe: Recipe, sketch: Outline, keeps: Retained, costs: Costs, world: int, fits: bool
) -> Iterator[str]:
    if sketch.absent:
        names = ", ".join(absent.what for absent in sketch.absent)
        yield f"sizes of {names} are the well-known ones; images were made up for the trial"
    wanted = -(-recipe.batch_size // world)
    if not fits:
        yield f"a batch of {wanted} does not fit into this GPU's memory: lower batch_size"
    if costs.batch < wanted:
        where = "there is no GPU here: " if costs.device.type == "cpu" else ""
        yield f"{where}timed with batches of {costs.batch} in place of {wanted}, and scaled up"
    if world > 1:
        yield f"{world} devices: timed on one; memory is that of each"
    if keeps.note:
        yield keeps.note
