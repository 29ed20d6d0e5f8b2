"""What a run will need, before it runs: steps, images, disk, memory and time.

Counts follow from the recipe and the sizes of its data. What things take is measured: a short run
of the recipe itself tells what a step, an image and a task take (:mod:`clbench.estimate.trial`).
Nothing is fetched, and nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch

from clbench.data.reader import distinct
from clbench.estimate.needed import RetentionNeed, outline, pretraining_left, retained
from clbench.estimate.trial import BATCH, STAGES, Trial, alone, emulated, try_out
from clbench.learner.trainer import devices, quiet
from clbench.machine import memory_of
from clbench.measure.loggers import check_loggers
from clbench.measure.meter import unlike
from clbench.measure.representation import RepresentationTest
from clbench.models.missing import missing_weights
from clbench.plugins.recipes import admitted
from clbench.processes.processes import apart
from clbench.recipe.foreseen import little
from clbench.recipe.recipe import Recipe, parse
from clbench.runner.steps import check_tasks, planned, stages_of, steps_of_stream
from clbench.streams import Stream, Task
from clbench.streams.outline import Missing, Needed
from clbench.text.numbers import counted

#: Measurements that estimates have in common, by what they depend on.
Shared = dict[tuple[object, ...], Any]
#: What of a recipe does not change what its steps and images take.
ALIKE = {
    *("name", "seed", "epochs", "steps", "batch_size", "schedule", "train_logits"),
    *("process_timeout", "stream", "data_dir"),
}


class TaskEstimate(NamedTuple):
    """What one task will need."""

    name: str
    steps: int  # of the optimiser
    samples: int  # images trained on, over all epochs and devices
    tested: int  # images evaluated after the task: of tests and of validation parts
    curve: int  # images evaluated while it is trained
    retained: int  # images of retention
    probed: int  # images of all tasks so far whose features are asked
    passed: int  # training images that go through the network beside: for a probe, Fisher, …
    seconds: float  # in all
    looks: float  # those of them that a try of tuning does without


@dataclass(frozen=True)
class Estimate:
    """What a run will need."""

    title: str  # the run's name
    tasks: tuple[TaskEstimate, ...]
    pretrained: int  # images evaluated before the first task
    looks: float  # seconds that this takes
    start: float  # seconds before the first task, these included
    end: float  # seconds after the last
    disk: Mapping[str, int]  # bytes by what takes them; what is there already does not count
    memory: Mapping[str, int]  # bytes by what takes them, on each device; ``peak``: at any time
    parameters: int  # of the network, numbers
    devices: int  # how many train together
    device: str  # what it was measured on
    missing: tuple[Missing, ...]  # what is not on this machine
    notes: tuple[str, ...]  # what else the user should know

    @property
    def total(self) -> TaskEstimate:
        """All tasks together."""
        return TaskEstimate("all", *map(sum, list(zip(*self.tasks, strict=True))[1:]))  # type: ignore[arg-type]

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return self.start + self.total.seconds + self.end

    def of_try(self, tasks: int) -> float:
        """Seconds of a try of tuning: so many first tasks, only those learned so far are tested."""
        few = self.tasks[:tasks]
        return self.start - self.looks + sum(t.seconds - t.looks for t in few) + self.end


def estimate(recipe: Recipe | Mapping[str, Any], shared: Shared | None = None) -> Estimate:
    """Estimate what a run needs, by its sizes and a short run on one device.

    Args:
        recipe: a recipe, or its values as read from YAML.
        shared: what estimates of other recipes have measured; this one adds to it.

    Raises:
        ClbenchError: for anything that a run would refuse. Data sets and weights that are not
            there are no error: they are in ``missing``.
    """
    recipe = recipe if isinstance(recipe, Recipe) else parse(admitted(recipe))
    check_loggers(recipe)
    weights = missing_weights(recipe.model)
    quiet()
    with apart():
        stream, needed, trial = _measured(recipe, {} if shared is None else shared)
    trial, needed = replace(trial, world=devices(recipe)), needed.copy()
    pretraining = pretraining_left(recipe, stream, needed)
    kept = retained(recipe, stream, needed, weights)
    stages = stages_of(list(recipe.methods.values()), stream)
    tasks, size = tuple(_tasks(recipe, stream, stages, kept, trial)), trial.memory["parameters"]
    later = stream.tasks if recipe.evaluate == "all" else ()
    ahead = [len(task.test) for task in unlike(later)[0]]
    looks = trial.test(kept.images) * kept.larger + sum(map(trial.test, ahead))
    memory = _memory(recipe, needed, trial, max(task.tested for task in tasks))
    every = len(tasks) / STAGES if recipe.checkpoints == "all" else 1
    disk = {f"data set {missing.what}": missing.disk for missing in needed.missing} | {
        "image caches": needed.cache,
        "pretrained weights": size * (any(pretraining) or bool(weights and weights.fetched)),
        "run folder": trial.files + int(trial.weights * every),
    }
    steps = steps_of_stream(recipe, stream, stages, trial.least)
    notes = [*_notes(recipe, needed, trial, memory), *kept.why]
    notes += little(recipe, [task.name for task in tasks], steps)
    return Estimate(
        title=recipe.title,
        tasks=tasks,
        pretrained=kept.images + sum(ahead),
        looks=looks,
        start=needed.seconds + trial.start + trial.fit(*pretraining) + looks,
        end=trial.end,
        disk={name: count for name, count in disk.items() if count},
        memory=memory,
        parameters=trial.record.run.parameters,
        devices=trial.world,
        device=torch.cuda.get_device_name(trial.device)
        if trial.device.type == "cuda"
        else f"{trial.device.type}, {counted(torch.get_num_threads(), 'thread')}",
        missing=(*needed.missing, *([weights] if weights else [])),
        notes=tuple(filter(None, notes)),
    )


def _measured(recipe: Recipe, shared: Shared) -> tuple[Stream, Needed, Trial]:
    """The stream in outline, what its images take, and a trial; or what ``shared`` has of them."""

    def once(make: Callable[[], Any], *key: object) -> Any:
        if key not in shared:
            shared[key] = make()
        return shared[key]

    own = alone(recipe)
    data = recipe.model_dump_json(include={"stream", "data_dir", "images", "per_task"})
    stream, needed = once(partial(outline, recipe), data)
    image = stream.train_images.take(stream.tasks[0].train.index[:1]).shape
    shape = (image, stream.independent, stream.shared, len(stream.tasks), len(stream.class_names))
    room = min(BATCH, own.batch_size), min(BATCH, *(len(task.train) for task in stream.tasks))
    trial = partial(try_out, own, stream)
    return stream, needed, once(trial, own.model_dump_json(exclude=ALIKE), shape, room)


def _tasks(
    recipe: Recipe, stream: Stream, stages: Sequence[Task], kept: RetentionNeed, trial: Trial
) -> Iterator[TaskEstimate]:
    """Walk the stages of a run as :class:`~clbench.runner.tasks.Run` does."""
    check_tasks(recipe, stages, trial.least)
    before, every = 0, recipe.eval_every
    representation = RepresentationTest.make(recipe, stream)
    for number, plan in enumerate(planned(recipe, stages, trial.least)):
        stage, count = stages[number], len(stages[number].train)
        own = stage.index if stream.independent else 0
        seen = [task for task in stream.tasks if own <= task.index <= stage.index]
        later = [t for t in stream.tasks if t.index > stage.index and recipe.evaluate == "all"]
        test = sum(map(len, distinct([task.test for task in seen])[0]))
        held = [len(task.validation) for task in seen]
        points = (before + plan.steps) // every - before // every if every else 0
        before += plan.steps
        tests, ahead = [test, sum(held) * all(held)], [len(task.test) for task in unlike(later)[0]]
        looks = [points * trial.test(test), kept.larger * trial.test(kept.images)]
        looks += map(trial.test, ahead)
        probed = representation.images(seen) if representation else 0
        looks.append(trial.test(probed))
        learned = trial.task(number, count, plan.steps, plan.samples) + sum(map(trial.test, tests))
        yield TaskEstimate(
            name=stage.name,
            steps=plan.steps,
            samples=plan.samples,
            tested=sum(tests + ahead),
            curve=points * test,
            retained=kept.images,
            probed=probed,
            passed=round(trial.passed(count)),
            seconds=learned + sum(looks),
            looks=sum(looks),
        )


def _memory(recipe: Recipe, needed: Needed, trial: Trial, tested: int) -> dict[str, int]:
    """What takes memory, and the most at any time: what the trial took, and what is more here."""
    batch, image = -(-recipe.batch_size // trial.world), trial.saved + trial.largest
    tried = max(round(event.samples / max(1, event.steps)) for event in trial.tasks)
    # In evaluation, up to three tensors between layers are there at once.
    evaluated = 3 * trial.largest * min(tested, recipe.eval_batch_size)
    more = max(0, int(max(image * batch, evaluated) - image * tried))
    parts = {**trial.memory, "images": needed.memory, "activations": int(image * batch)}
    if needed.memory > more:
        parts["images once more, while they are read"] = needed.memory
    return parts | {"peak": trial.peak + needed.memory + max(more, needed.memory)}


def _notes(
    recipe: Recipe, needed: Needed, trial: Trial, memory: Mapping[str, int]
) -> Iterator[str]:
    room, peak = memory_of(trial.device), memory["peak"]
    if needed.missing:
        names = ", ".join(missing.what for missing in needed.missing)
        yield f"sizes of {names} are the well-known ones; images were made up"
    if peak > room:
        of_images = needed.memory > memory["activations"]
        way = (
            "lower batch_size" if not of_images else "lower images.stored or set images.keep: disk"
        )
        yield f"{peak / 1e9:.1f} GB is more than the {room / 1e9:.1f} GB here: {way}"
    if trial.device.type == "cpu" and recipe.trainer.get("accelerator") in ("gpu", "cuda"):
        yield "there is no GPU here: time and memory are those of the CPU"
    if emulated(recipe):
        asked = recipe.trainer["precision"]
        yield (
            f"trainer.precision = {asked!r}: this processor only emulates bfloat16; measured in "
            "single precision, which takes more memory"
        )
    if trial.world > 1:
        yield f"{trial.world} devices: measured on one; memory is that of each"
    if recipe.early_stopping.every:
        yield "early_stopping: these are the most steps there can be, without its looks"
