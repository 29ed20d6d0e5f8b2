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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from clbench.data.batches import Split
from clbench.machine import peak_memory, reset_peak
from clbench.models.modes import checkpoint_gradients
from clbench.recipe.recipe import Recipe
from clbench.record.events import Part, TaskEvent
from clbench.runner.preflight import as_trained, one_process
from clbench.runner.setup import Setup
from clbench.runner.tasks import Run
from clbench.streams import Stream
from clbench.weights import tensors_in

#: Samples of a batch and images of a stage at most; the seconds that they may take forwards.
BATCH, IMAGES, BRIEF = 64, 512, 0.15
STAGES = 4
#: Parts of a task that depend on its training images.
AROUND: tuple[Part, ...] = ("prepare", "finish", "deploy")


@dataclass(frozen=True)
class Trial:
    """What a short run has found."""

    events: Sequence[TaskEvent]  # of its tasks
    images: Sequence[int]  # training images of each
    least: int  # images that the network needs at a time
    start: float  # seconds before the first task
    beside: float  # seconds of a task that are in none of its parts
    end: float  # seconds after the last task
    peak: int  # most bytes in use
    memory: Mapping[str, int]  # bytes by what takes them
    saved: float  # bytes that an image of a batch has kept for the backward pass
    largest: float  # those of the largest tensor among them
    weights: int  # bytes of all checkpoints
    files: int  # bytes of the rest of the run folder
    parameters: int  # of the network, numbers
    device: torch.device  # where it ran
    world: int = 1  # devices of the run that is estimated

    def task(self, behind: int, images: int, steps: int, samples: int) -> float:
        """Seconds of a task, but for its tests.

        Args:
            behind: tasks before it.
            images: that it trains on.
            steps: of the optimiser.
            samples: all images of these steps.
        """
        around = self._grown(images, lambda e: sum(e.parts[p].seconds for p in AROUND))
        own = samples / self.world + steps * self.extra(behind)
        return self.beside + around + self.fit(steps, own)

    def fit(self, steps: int, images: float) -> float:
        """Seconds of so many steps on so many images in all."""
        trained = [event for event in self.events[1:] if event.steps]
        # Methods may let the first stage be trained alone, or none.
        fits = [(e.steps, e.parts["fit"]) for e in trained or self.events[:1]]
        known = [(count, fit.trained) for count, fit in fits]
        return grown(known, [fit.seconds for _, fit in fits], steps, images)

    def test(self, images: int) -> float:
        """Seconds of a test on so many images."""
        tests = [event.parts["test"] for event in self.events[1:3]]
        known, took = [(test.passed,) for test in tests], [test.seconds for test in tests]
        return grown(known, took, images) / self.world

    def passed(self, images: int) -> float:
        """Images that go through the network beside steps, in a task of so many."""
        return self._grown(
            images, lambda e: sum(e.parts[p].trained + e.parts[p].passed for p in AROUND)
        )

    def extra(self, behind: int) -> float:
        """Images of a step beside its batch, after so many tasks: GEM has a memory of each."""
        pairs = [(event, event.parts["fit"].trained) for event in self.events[1:3]]
        found = [(trained - event.samples) / max(1, event.steps) for event, trained in pairs]
        return grown([(1,), (2,)], found, behind)

    def _grown(self, images: int, of: Callable[[TaskEvent], float]) -> float:
        known = [(count,) for count in self.images[1:3]]
        return grown(known, list(map(of, self.events[1:3])), images)


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
    """Run the recipe on a few images.

    Args:
        recipe: the run's, as :func:`alone` has it.
        stream: its stream in outline.

    Raises:
        ClbenchError: for a network that a run would refuse.
    """
    stepped = [(0, 0)]

    def weigh(optimizer: Optimizer, *_: Any) -> None:
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        state = tensors_in(list(optimizer.state.values()))
        stepped.append((_bytes(p for p in weights if p.grad is not None), _bytes(state)))

    quiet, place = redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory()
    with place as name, quiet, register_optimizer_step_post_hook(weigh):
        reset_peak()
        folder, marks = Path(name), [time.perf_counter()]
        setup = Setup.of(recipe, folder, tries=True, stream=stream)
        seconds, saved, largest = _forwards(setup)
        setup = _short(setup, int(BRIEF / seconds))
        run = Run(setup, folder)
        marks.append(time.perf_counter())
        for stage in setup.stages:
            run.learn(stage)
        marks.append(time.perf_counter())
        run.go()  # writes what a run leaves behind
        marks.append(time.perf_counter())
        sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    events = run.recorder.record.tasks
    weights = sum(size for path, size in sizes.items() if "checkpoints" in path.parts)
    inside = sum(part.seconds for event in events for part in event.parts.values())
    return Trial(
        events=events,
        images=[len(stage.train) for stage in setup.stages],
        least=setup.least,
        start=marks[1] - marks[0],
        beside=(marks[2] - marks[1] - inside) / len(events),
        end=marks[3] - marks[2],
        peak=peak_memory(setup.network.device),
        memory=_memory(setup, stepped),
        saved=saved,
        largest=largest,
        weights=weights,
        files=sum(sizes.values()) - weights,
        parameters=run.recorder.record.run.parameters,
        device=setup.network.device,
    )


def _memory(setup: Setup, stepped: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Bytes by what takes them; ``stepped`` has gradients and optimiser of every step."""
    weights, on_cpu = list(setup.network.model.parameters()), setup.network.device.type == "cpu"
    size = _bytes(weights)
    near = sum(method.needs.copies for method in setup.methods)
    # θ_* and θ_o; on a GPU they are beside the network if a method reads them.
    anchors = 2 if on_cpu or near else 0
    own = tensors_in([method.state_dict() for method in setup.methods])
    return {
        "parameters": size,
        "gradients": max((gradients for gradients, _ in stepped), default=0),
        "optimizer": max((state for _, state in stepped), default=0),
        "anchors": anchors * size,
        "methods": max((near - anchors) * size, _bytes(filter(torch.is_floating_point, own))),
    }


def alone(recipe: Recipe) -> Recipe:
    """The recipe for one process here, with random weights and all tasks alike; no retention."""
    here = dict[str, Any]()
    if not torch.cuda.is_available():
        if recipe.trainer.get("accelerator") in ("gpu", "cuda"):
            here["accelerator"] = "cpu"
        if str(recipe.trainer.get("precision", "32")).startswith("16"):
            here["precision"] = "bf16-mixed"
    update: dict[str, Any] = {
        "model": recipe.model.model_copy(update={"weights": "none"}),
        "retention": recipe.retention.model_copy(update={"data": "none", "sets": {}}),
        "schedule": recipe.schedule.model_copy(update={"over": "task"}),
    }
    board = {name: rules for name, rules in recipe.loggers.items() if name == "tensorboard"}
    update |= {"per_task": {}, "eval_every": None, "evaluate": "seen", "name": None}
    update |= {"loggers": board}
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
    small = [
        replace(stage, name=str(number), train=_few(stage.train, count * (1 + (number == 2))))
        for number, stage in enumerate(stages)
    ]
    lengths = ((1, batch), (steps, batch), (4 * steps, batch), (steps, wide))
    per_task = {str(n): {"steps": s, "batch_size": b} for n, (s, b) in enumerate(lengths)}
    recipe = setup.recipe.model_copy(update={"per_task": per_task})
    meter = replace(setup.meter, stream=stream)
    return replace(setup, recipe=recipe, stream=stream, stages=small, meter=meter)


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
            found.append(kept(model, inputs[:count]))
        seconds = (time.perf_counter() - began) / count
    few, more = found
    return seconds, max(0, sum(more) - sum(few)) / 2, max([*more, 0]) / 4


def kept(model: nn.Module, inputs: Tensor) -> list[int]:
    """Bytes of each tensor that a model in training keeps of a batch for the backward pass."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, torch.UntypedStorage] = {}  # held, so that no two have one address

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(inputs)
    return [storage.nbytes() for storage in found.values()]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)
