"""A run, task after task: prepare, train, deploy, measure, record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from clbench.data.batches import Batches, Examples
from clbench.errors import ClbenchError
from clbench.learner import footprint
from clbench.learner.deploy import Weights, unwrap
from clbench.learner.footprint import Clock
from clbench.learner.learner import Learner
from clbench.learner.trainer import accumulated, count_steps, fit, make_trainer
from clbench.machine import peak_memory
from clbench.measure.evaluate import total
from clbench.methods.base import Context, overriding
from clbench.methods.plan import Plan
from clbench.models import finite
from clbench.models.loss import ClassLoss
from clbench.processes.processes import is_first, say, world_size
from clbench.recipe.foreseen import plan_of, stopped_by_scored, with_scope, without_effect
from clbench.recipe.recipe import Recipe
from clbench.record.events import TaskEvent
from clbench.record.scopes import is_little, sentence
from clbench.runner.finish import finish
from clbench.runner.moved import distances, modes
from clbench.runner.network import beyond, operated, restrict
from clbench.runner.parts import Parts
from clbench.runner.saving import Saver
from clbench.runner.screen import line
from clbench.runner.setup import Setup
from clbench.runner.smallest import Smallest
from clbench.runner.start import Progress, begin, go_on
from clbench.runner.steps import steps_of_stream
from clbench.seeding import seed_everything
from clbench.streams import Task
from clbench.weights import snapshot


class Run:
    """One run in progress.

    Args:
        setup: what it works with.
        folder: the run folder; it exists.
        checkpoint: the state after a finished task, to go on from it.

    Attributes:
        progress: how far it is.
        recorder: holds its record.
    """

    def __init__(
        self, setup: Setup, folder: Path, checkpoint: dict[str, Any] | None = None
    ) -> None:
        self.setup, self.folder = setup, folder
        self.network, self.meter = setup.network, setup.meter
        self.named_methods, self.methods = setup.named_methods, setup.methods
        self.idle = without_effect(setup.recipe, [s.name for s in setup.stages])  # methods, and why
        self.warned = set(self.idle)  # those that are known to be able to do next to nothing
        if checkpoint is not None:
            self.recorder, self.progress = go_on(setup, folder, checkpoint)
        else:
            if (folder / "record.jsonl").exists():
                say(f"No task in {folder} is finished: the run begins anew.")
            self.recorder, self.progress = begin(setup, folder)
        self.saver = Saver(setup, folder, self.progress.done)
        self.smallest = Smallest(self.network.passes)
        self.steps: list[int] = []  # of every task, where the schedule runs over all of them
        if setup.recipe.schedule.over == "stream":
            self.steps = steps_of_stream(setup.recipe, setup.stream, setup.stages, setup.least)

    def go(self) -> None:
        """Train on every task that is left, and write what a run leaves behind."""
        stages, logger = self.setup.stages, self.setup.logger
        for told in (*self.idle.values(), *stopped_by_scored(self.setup.recipe)):
            say(f"Warning: {told}")
        try:
            self.learn(stages[self.progress.done :])
            if is_first():
                state = snapshot(self.network.model, "cpu")
                beyond(self.methods, self.setup.recipe.checkpoints, self.network.grown)
                finish(self.recorder, len(stages), self.setup.recipe, state, logger)
        except BaseException:
            logger.finalize("failed")
            raise

    def learn(self, tasks: Sequence[Task]) -> None:
        """Learn tasks in turn; their checkpoints are on the disk when this returns."""
        try:
            for task in tasks:
                self._learn(task)
            self.saver.join()
        except BaseException:
            self.saver.close()
            raise

    def _learn(self, task: Task) -> None:
        """Learn one task: train, deploy, measure, record; its checkpoint is yet to be written."""
        number, first_step = self.progress.done + 1, self.progress.step
        parts, clock = Parts(self.network.device, self.network.passes), Clock()
        recipe = self.setup.recipe_of(task)
        title = f"Task {number}/{len(self.setup.stages)} ({task.name})"
        seed_everything(recipe.seed, 1, task.index)
        self.setup.stream.open(task, past=any(m.needs.past_data for m in self.methods))
        with parts("prepare"):
            context, seen, batches = self._prepare(recipe, task, clock)
        self.meter = self.meter.through(context.reader)
        plan = self._plan(recipe, number, context)
        curve: list[dict[str, Any]] = []
        every, stream_steps = recipe.eval_every, sum(self.steps) or None
        on_step = self.meter.curve(context.model, every, task, seen, curve) if every else None
        on_step = self.saver.watched(self.network.passes.looking(on_step))
        learner = Learner(context, self.methods, recipe, first_step, clock, on_step, stream_steps)
        with parts("fit"):
            self._fit(learner, batches, title)
        with parts("finish"):
            for method in self.methods:
                with clock(method):
                    method.finish(context)
        with parts("deploy"):
            moved = recipe.ema > 0 and learner.step_count > 0  # no step leaves nothing to average
            averages = moved or any(method.averages for method in self.methods)
            theta = unwrap(self.methods, snapshot(context.model, "cpu"))
            weights = self.setup.deploy(self.methods, theta, context, averages)
            self._refuse_what_is_no_number(weights, task)
            self.network.show(weights, self.methods)
        self.progress = Progress(number, first_step + learner.step_count, weights.carried, seen)
        told = self._measure(context, learner, plan, weights, parts, curve)
        told["seconds"] = seconds = parts.seconds
        told["parts"] = parts.found
        told["flops"] = self.network.flops.spent(parts.found, self.network.device)
        told["peak_memory_bytes"] = peak_memory(self.network.device)
        told["footprint"] = {
            name: footprint.measure(m, self.setup.image_bytes, clock.of(m), seconds)
            for name, m in self.named_methods.items()
        }
        event = TaskEvent.made(**told)
        self.recorder.add(event, wait=False)
        self.meter.log(event, number, self.named_methods)
        say(f"{title}: {line(event, self.setup.stream.shared)}")
        scopes = {name: did.get("scope") for name, did in event.methods.items()}
        self._warn(scopes, f"task {task.name}")
        self.saver.save(self.recorder, self.progress, context, weights)

    def _prepare(self, recipe: Recipe, task: Task, clock: Clock) -> tuple[Context, Tensor, Batches]:
        """Everything up to the first step: weights, head, anchors, methods, batches."""
        network, stream, learned = self.network, self.setup.stream, self.progress.learned
        theta = network.adapt(self.methods, task, self.progress.theta)
        rewinds = stream.independent or any(method.rewinds for method in self.methods)
        if rewinds:
            network.rewind(theta)
        else:
            network.load(theta)
        if stream.independent or (rewinds and stream.shared):
            learned = torch.zeros_like(learned)
        rows = torch.zeros_like(learned)
        rows[task.classes.start : task.classes.stop] = True
        probed = recipe.model.head == "linear_probe"
        probe_losses = network.probe(task, recipe, learned) if probed else None
        first = self.progress.done == 0
        anchors = network.anchors(theta, learned, rows & probed, rewinds or first)
        model = operated(self.methods, network.model)
        examples = Examples(task.train)
        for method in overriding(self.methods, "examples"):
            examples = method.examples(examples)
        batches = Batches(
            examples,
            recipe.batch_size,
            (recipe.seed, 3, task.index),
            recipe.images.workers,
            accumulated(recipe),
            self.smallest.of(recipe, model, network.head),
            recipe.augment,
            network.device,
        )
        seen = learned | rows
        labels = [examples.labels, *(method.remembered_labels() for method in self.methods)]
        present, owner = torch.cat(labels).unique(), stream.task_of_class
        losses = ClassLoss(recipe.train_logits, present, owner, seen, recipe.label_smoothing)
        steps = count_steps(recipe, len(batches))
        context = self.setup.context(recipe, task, model, anchors, losses, steps, probe_losses)
        for method in self.methods:
            with clock(method):
                method.start(context)
        for method in overriding(self.methods, "rows"):
            losses.release(method.rows(context))
        if not restrict(model, self.methods):
            context = replace(context, total_steps=0)
            say(f"Task {task.name}: the methods leave nothing to train, 0 steps.")
        network.flops.look(model)
        return context, seen, batches

    def _plan(self, recipe: Recipe, number: int, context: Context) -> Plan:
        """The plan of a task, with what is known of the methods before its first step."""
        steps, name = context.total_steps, context.task.name
        if self.steps and self.steps[number - 1] != steps:
            raise ClbenchError(
                f"schedule.over = 'stream': task {name} has {steps} steps, and "
                f"{self.steps[number - 1]} were counted before the first task, as a method changed "
                "what it trains on: say steps in place of epochs"
            )
        plan = plan_of(recipe, max(1, steps), self.progress.step, sum(self.steps) or None)
        for method_name, method in self.named_methods.items():
            for what, detail in method.remarks():
                say(f"Warning: {method_name}, task {name}: {what}: {detail}")
        # A schedule over the stream is another one in each task; else what holds in one that comes
        # before the method acts holds where it does.
        first = number if self.steps else len(self.setup.stages)
        scopes = {n: m.scope(plan) for n, m in self.named_methods.items() if m.first_task <= first}
        self._warn(scopes, f"task {name}" if self.steps else "")
        return plan

    def _warn(self, scopes: Mapping[str, float | None], where: str = "") -> None:
        """Say, once a run, which methods could do next to nothing."""
        for name, scope in scopes.items():
            if scope is not None and is_little(scope) and name not in self.warned:
                self.warned.add(name)
                means = self.named_methods[name].scope_means
                say(f"Warning: {sentence(name, scope, means, where)}")

    def _fit(self, learner: Learner, batches: Batches, title: str) -> None:
        learner.channels_last = self.network.channels_last
        learner.model.train()
        steps = learner.context.total_steps
        trainer = make_trainer(learner.recipe, max(1, steps), title, self.setup.logger)
        if steps:
            fit(trainer, learner, batches)
            self.network.passes.trained += learner.compiled_count
        elif trainer.world_size > world_size():  # as fit would have done
            trainer.strategy.setup_environment()
        learner.to(self.network.device)
        if world_size() > 1:  # running statistics differ between processes
            for tensor in learner.model.state_dict().values():
                dist.broadcast(tensor, 0)

    def _refuse_what_is_no_number(self, weights: Weights, task: Task) -> None:
        finite.check_task(
            weights.trained,
            (weights.carried, weights.shown),
            {name: method.state_dict() for name, method in self.named_methods.items()},
            [name for name, m in self.named_methods.items() if overriding([m], "deploy")],
            dict(self.network.model.named_parameters()),
            task.name,
        )

    def _measure(
        self,
        context: Context,
        learner: Learner,
        plan: Plan,
        weights: Weights,
        parts: Parts,
        curve: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """What there is to record of a task; the network holds the weights that are shown."""
        model, task, seen = self.network.model, context.task, self.progress.learned
        with parts("test"):
            tested = self.meter.test(model, task, seen)
            validation = self.meter.validation(model, task, seen)
            every = self.setup.recipe.evaluate == "all"
            ahead = {"ahead": self.meter.ahead(model, task, seen)} if every else {}
        with parts("retention"):
            kept = self.meter.retention(model)
        if self.meter.representation_test:
            with parts("representation"):
                kept["representation"] = self.meter.representation(model, task)
        return {
            "task": task.index,
            "name": task.name,
            "last_step": self.progress.step,
            **tested,
            "validation": validation,
            **kept,
            **ahead,
            "curve": curve,
            "methods": {
                name: with_scope(m, m.activity(), plan, learner.shares.of(m))
                for name, m in self.named_methods.items()
            },
            "remarks": [
                {"method": name, **remark._asdict()}
                for name, m in self.named_methods.items()
                for remark in m.remarks()
            ],
            "distance": distances(context, weights.shown),
            "distance_over": "trunk",  # not the head
            "modes": modes(context.model),
            "loss": learner.run_loss,
            "processes": world_size(),
            "steps": learner.step_count,
            "samples": total(learner.sample_count, self.network.device),
        }
