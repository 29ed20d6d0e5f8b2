"""``model.compile: auto``: whether compiled steps, or another memory format, pay in a run.

Before the first task, some steps are made on random images by a network that is thrown away
afterwards, in each way that may be faster: as in :mod:`clbench.runner.preflight`, nothing of it
reaches the results. What was measured and chosen stands in the record's first line, and a run that
is resumed keeps to it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clbench.errors import first_line
from clbench.learner.trainer import fit, make_trainer
from clbench.machine import has_bfloat16
from clbench.models import backbone
from clbench.models.settings import AUTO
from clbench.processes.processes import apart, say
from clbench.recipe.recipe import Recipe
from clbench.record.begun import StepTrial
from clbench.record.record import Record
from clbench.runner.preflight import as_trained, built, lone_learner, one_process, random_task
from clbench.runner.steps import planned
from clbench.streams import Task

#: Steps of a trial after its first one; the fastest counts, as other programs only slow steps down.
STEPS = 5
#: Seconds of training below which nothing is tried: compiling alone takes ten seconds to minutes.
LEAST = 120.0
#: A way is chosen where its step takes at most so much of the one before.
PAYS = 0.95
BACKEND = "inductor"
#: Of a run that began without a trial, as its recipe was another one then.
UNTRIED = StepTrial(compile=None, channels_last=None, why="as it is: the run began so")
#: What a step is called in a record.
PLAIN, LAST, COMPILED, HALF = "as it is", "channels last", "compiled", "bf16-mixed"


def settled(recipe: Recipe, trial: StepTrial | None) -> Recipe:
    """The recipe with what a trial chose in place of ``model.compile: auto``; None: nothing."""
    if recipe.model.compile != AUTO:
        return recipe
    chosen: dict[str, Any] = {"compile": trial.compile if trial else None}
    if trial and trial.channels_last is not None:
        chosen["channels_last"] = trial.channels_last
    return with_model(recipe, **chosen)


def with_model(recipe: Recipe, **fields: Any) -> Recipe:
    """The recipe with other settings of the network."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=fields)})


def try_steps(
    recipe: Recipe, stages: Sequence[Task], least: int, device: torch.device, processes: int
) -> StepTrial | None:
    """What pays in a run that begins, by a trial if training is long enough; None: not asked.

    Args:
        recipe: the run's.
        stages: what it trains on, in order.
        least: images that the network needs at a time.
        device: where to train.
        processes: of the run.
    """
    if recipe.model.compile != AUTO:
        return None
    trial = _fitting(recipe, stages, least, device, processes)
    say(f"model.compile: auto: {trial.why}.")
    return trial


def _fitting(
    recipe: Recipe, stages: Sequence[Task], least: int, device: torch.device, processes: int
) -> StepTrial:
    """A trial, or why there is none; the arguments are those of `try_steps`."""
    if processes > 1:
        return _nothing(
            "it is not tried with several processes, which would slow each other's trials down: "
            f"say model.compile: {BACKEND} where you know that it pays"
        )
    steps = sum(plan.steps for plan in planned(recipe, stages, least))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        return _tried(recipe, device, steps) if steps else _nothing("nothing is trained")


def step_trial_of(folder: Path) -> StepTrial:
    """What the run in a folder keeps to, as its record says."""
    record = Record.load(folder)
    return (record.run.step_trial if record.events else None) or UNTRIED


def _nothing(why: str) -> StepTrial:
    return StepTrial(compile=None, channels_last=None, why=f"as it is: {why}")


@dataclass
class _Ways:
    """Ways to make steps, as far as they are tried.

    Attributes:
        device: where to train.
        took: seconds of a step of each that can be taken.
        failed: why another one cannot.
    """

    device: torch.device
    took: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def first_step(self, way: str, recipe: Recipe) -> float:
        """Try one; the seconds of its first step, endless if it fails."""
        try:
            first, self.took[way] = seconds_of_steps(recipe, self.device)
        except Exception as error:  # no compiler, a network that needs another format, diverging …
            self.failed[way] = first_line(error)
            return math.inf
        return first


def _tried(recipe: Recipe, device: torch.device, steps: int) -> StepTrial:
    """The trial of a run of so many steps; what fails in it stops no run."""
    began, plain, ways = time.perf_counter(), with_model(recipe, compile=None), _Ways(device)
    ways.first_step(PLAIN, plain)
    if PLAIN in ways.failed:
        return _nothing(f"the trial fails ({ways.failed[PLAIN]})")
    took, eager = ways.took, ways.took[PLAIN]
    if (total := eager * steps) < LEAST:
        why = f"training takes about {total:.0f} s, less than compiling might"
        return _nothing(why).model_copy(update={"step_seconds": took})
    say("model.compile: auto: steps are tried, which takes a minute or more.")
    best, last, spent, compiles = plain, _untried_format(plain, device), 0.0, None
    if last is not None:
        ways.first_step(LAST, last)
        if took.get(LAST, math.inf) <= PAYS * eager:
            best, eager = last, took[LAST]
    first = ways.first_step(COMPILED, with_model(best, compile=BACKEND))
    if COMPILED in took:
        spent, saves = max(0.0, first - took[COMPILED]), (eager - took[COMPILED]) * steps
        compiles = BACKEND if took[COMPILED] <= PAYS * eager and saves > spent else None
    if recipe.trainer.get("precision") in (None, 32, "32", "32-true") and has_bfloat16(device):
        half = plain.model_copy(update={"trainer": plain.trainer | {"precision": HALF}})
        ways.first_step(HALF, half)
    return StepTrial(
        compile=compiles,
        channels_last=True if best is last else None,
        why=_told(ways, spent, compiles is not None, best is last),
        step_seconds=took,
        compile_seconds=spent,
        seconds=time.perf_counter() - began,
    )


def _told(ways: _Ways, spent: float, compiles: bool, last: bool) -> str:
    """A trial in words."""
    took, failed = ways.took, ways.failed
    chosen = [way for way, taken in ((COMPILED, compiles), (LAST, last)) if taken]
    tried = [f"{took[PLAIN]:.3g} s a step {PLAIN}"]
    if LAST in took:
        tried.append(f"{took[LAST]:.3g} s {LAST}")
    if COMPILED in took:
        tried.append(f"{took[COMPILED]:.3g} s compiled, which took {spent:.0f} s")
    told = {LAST: LAST, COMPILED: "torch.compile"}  # bfloat16 was not asked for
    tried += [f"{told[way]} fails ({why})" for way, why in failed.items() if way in told]
    line = f"{' and '.join(chosen) or PLAIN}: {', '.join(tried)}"
    if HALF in took and took[HALF] <= PAYS * min(took[way] for way in took if way != HALF):
        line += f"; trainer.precision: {HALF} would take {took[HALF]:.3g} s"
    return line


def _untried_format(recipe: Recipe, device: torch.device) -> Recipe | None:
    """The recipe with channels last, if that is open and not the default."""
    model = built(with_model(recipe, weights="none"), device)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    default = backbone.prefers_channels_last(model, device)
    if recipe.model.channels_last is not None or default or convolutions < 2:
        return None
    return with_model(recipe, channels_last=True)


def seconds_of_steps(recipe: Recipe, device: torch.device) -> tuple[float, float]:
    """Seconds of the first step of a fresh network, compiling included, and of the fastest later.

    Args:
        recipe: the run's, ``model.compile`` settled.
        device: where to train.
    """
    small = one_process(
        with_model(recipe, weights="none").model_copy(update={"steps": STEPS + 1, "epochs": None}),
        devices=[device.index or 0] if device.type == "cuda" else 1,
    )
    network = built(small, device).to(device)
    model = as_trained(small, network)
    format_ = small.model.channels_last
    batches, context = random_task(small, model, backbone.head_names(model), STEPS + 1)
    ends: list[float] = []

    def on_step(step: int) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        ends.append(time.perf_counter())

    learner = lone_learner(context, small, on_step)
    prefers = backbone.prefers_channels_last(network, device)
    learner.channels_last = prefers if format_ is None else format_
    model.train()
    with apart():
        trainer = make_trainer(small, STEPS + 1)
    ends.append(time.perf_counter())
    fit(trainer, learner, batches)
    first, *later = (end - begin for begin, end in pairwise(ends))
    return first, min(later)
