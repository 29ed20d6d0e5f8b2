"""The way through: recipe → stream → for each task train, deploy, evaluate, record → summary."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from clbench.data.batches import Batches, Examples
from clbench.errors import ClbenchError
from clbench.files.disk import write_atomic, writing_to
from clbench.learner import footprint
from clbench.learner.deploy import deploy, refresh_batch_norm
from clbench.learner.footprint import Clock
from clbench.learner.learner import Learner
from clbench.learner.trainer import accumulated, count_steps, fit, make_trainer, quiet
from clbench.machine import peak_memory
from clbench.measure.board import StreamLogger
from clbench.measure.evaluate import Evaluator, total
from clbench.measure.meter import Meter
from clbench.measure.retention import RetentionTest
from clbench.methods.base import Context, Method, overriding
from clbench.methods.plan import Plan
from clbench.models import finite
from clbench.models.batch_norm import statistics
from clbench.models.loss import ClassLoss
from clbench.models.training import Reading
from clbench.processes.processes import is_first, say, world_size
from clbench.processes.rollcall import Chosen, RollCall
from clbench.recipe.foreseen import plan_of, with_scope
from clbench.recipe.per_task import check_names
from clbench.recipe.recipe import Recipe, parse
from clbench.record import checkpoints, saved, trust
from clbench.record.record import Event, Record, Recorder
from clbench.record.scopes import is_little, sentence
from clbench.runner import folder as run_folder
from clbench.runner import outputs as files
from clbench.runner import screen
from clbench.runner.finish import finish, finish_from_folder
from clbench.runner.identity import (
    compare,
    compare_recipe,
    last_checkpoint,
    take_up,
)
from clbench.runner.meeting import meet
from clbench.runner.network import Network, distances, modes
from clbench.runner.preflight import check_tasks, preflight, single_classes, smallest
from clbench.runner.steps import steps_of_tasks
from clbench.seeding import derive, seed_everything
from clbench.streams import Task
from clbench.text.yamltext import dump
from clbench.weights import State, snapshot


def run(
    recipe: Recipe | Mapping[str, Any], output: Path | str | None = None, resume: bool = False
) -> Record:
    """Run a stream from beginning to end.

    Args:
        recipe: a recipe, or its values as read from YAML.
        output: the run folder; default: a free one under ``runs/``.
        resume: go on from the last finished task of the run in that folder.

    Returns:
        The record of the run.

    Raises:
        ClbenchError: for anything the user can mend.
    """
    recipe = recipe if isinstance(recipe, Recipe) else parse(recipe)
    place = Path(output) if output is not None else None
    together = meet(recipe)
    with together.watch(), ExitStack() as held:
        chosen = together.agree(lambda: _choose(recipe, place, resume, held))
        if not chosen.over:
            _go(recipe, chosen, together)
        folder = chosen.folder
        if recipe.checkpoints == "none" and is_first():
            checkpoints.remove(folder)
    record = Record.load(folder)
    if is_first():
        files.attempt("The table of results", lambda: screen.show(record))
    return record


def _choose(recipe: Recipe, place: Path | None, resume: bool, held: ExitStack) -> Chosen:
    """What the first process decides for all."""
    folder, resume = run_folder.take(recipe, place, resume, held)
    if resume and (folder / "record.jsonl").exists():
        trust.whole(folder)  # it may be anybody's
    with _kept(folder):
        return Chosen(folder, resume, resume and finish_from_folder(folder, recipe))


def _go(recipe: Recipe, chosen: Chosen, together: RollCall) -> None:
    with _kept(chosen.folder):
        together.start_others()
        try:
            Run(recipe, chosen.folder, chosen.resume).go()
        except ClbenchError:
            if is_first() and not chosen.resume:
                run_folder.give_back(chosen.folder)
            raise


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Says how to go on where a run stops, and turns what the disk refuses into one line."""
    try:
        with writing_to(folder, f"go on with --resume --output {folder}"):
            yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or (folder / "checkpoints").exists():
            say(f"Stopped. Finished tasks are kept; go on with --resume --output {folder}")
        raise


class Run:
    """One run in progress.

    Args:
        recipe: what to do.
        folder: the run folder; it exists and holds ``config.yaml``.
        resume: whether to go on from a checkpoint in it.
        tries: whether what is known before the first step is tried before it.
    """

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, tries: bool = True) -> None:
        quiet()
        self.recipe, self.folder = recipe, folder
        self.checkpoint = last_checkpoint(folder) if resume else None
        # The recipe's methods are settings; these remember things.
        self.named_methods = {name: m.model_copy(deep=True) for name, m in recipe.methods.items()}
        self.methods: list[Method] = list(self.named_methods.values())
        trainer = make_trainer(recipe, 1)
        device: torch.device = trainer.strategy.root_device
        autocast = trainer.precision_plugin.forward_context
        least = self.least = preflight(recipe, folder, trainer) if tries else 1
        self.stream = recipe.build_stream()
        self.warning = single_classes(recipe, self.stream)
        self.warned = set[str]()  # methods that are known to be able to do next to nothing
        for images in (self.stream.train_images, self.stream.test_images):
            images.move(device)
        self.image_bytes = self.stream.test_images.take(torch.tensor([0])).numel()
        self.stages: Sequence[Task] = self.stream.tasks
        for method in overriding(self.methods, "arrange"):
            self.stages = method.arrange(self.stages)
        check_names(list(recipe.per_task), [t.name for t in (*self.stream.tasks, *self.stages)])
        check_tasks(recipe, self.stages, least)
        copies = any(method.needs.copies for method in recipe.all_methods())
        anchors_at = device if copies else torch.device("cpu")
        self.network = Network(recipe, self.stream, device, anchors_at, autocast)
        self.device, self.head = device, self.network.head
        self.first_step = self.checkpoint["step"] if self.checkpoint else 0
        self.steps: list[int] = []  # of every task, where the schedule runs over all of them
        self.stored = set[str]()  # tensors that the checkpoints hold, by their hashes
        self.logger = StreamLogger(folder, self.first_step)
        transform, pretrained = self.network.transform(recipe), self.network.pretrained
        evaluator = Evaluator(transform, recipe.eval_batch_size, recipe.images.workers, autocast)
        retention = RetentionTest.make(recipe, self.stream, pretrained, evaluator, device)
        self.meter = Meter(self.stream, evaluator, retention, self.logger)

    def go(self) -> None:
        """Train on every task that is left, and write what a run leaves behind."""
        if self.checkpoint is None:
            if (self.folder / "record.jsonl").exists():
                say(f"No task in {self.folder} is finished: the run begins anew.")
            done, (theta, learned) = 0, self._begin()
        else:
            done, theta, learned = self._take_up(self.checkpoint)
        if self.recipe.schedule.over == "stream":
            self.steps = steps_of_tasks(self.recipe, self.stages, self.least)
        for number, task in enumerate(self.stages[done:], done + 1):
            theta, learned = self._task(number, task, theta, learned)
        if is_first():
            state = snapshot(self.network.model, "cpu")
            finish(self.recorder, len(self.stages), self.recipe, state, self.logger)

    def _begin(self) -> tuple[State, Tensor]:
        """Record what is about to happen; returns the first weights, and that no row is learned."""
        recipe, stream, identity = self.recipe, self.stream, self.identity()
        weights = {
            "source": self.network.pretrained.source,
            "sha256": identity["pretrained_sha256"],
        }
        if is_first():
            text = run_folder.environment(weights, identity["split_manifest_sha256"], self.device)
            write_atomic(self.folder / "environment.json", text)
            write_atomic(self.folder / "split_manifest.json", self._manifest())
        self.recorder = Recorder(self.folder, writes=is_first())
        if self.warning:
            say(f"Warning: {self.warning}")
        self.recorder.add(
            "run",
            title=recipe.title,
            stream=recipe.stream.name,
            methods={
                name: finite.written(m.model_dump(mode="json"))
                for name, m in recipe.methods.items()
            },
            seed=recipe.seed,
            backbone=recipe.model.backbone,
            options=recipe.model.options,
            size=recipe.images.size,
            weights=weights,
            split_manifest_sha256=identity["split_manifest_sha256"],
            retention_images_sha256=identity["retention_images_sha256"],
            tasks=identity["tasks"],
            test_images=[len(task.test) for task in stream.tasks],
            class_names=identity["class_names"],
            independent=stream.independent,
            shared_labels=stream.shared,
            test_on=recipe.stream.test_on,
            train_logits=recipe.train_logits,
            warnings=[self.warning] if self.warning else [],
            parameters=sum(p.numel() for p in self.network.model.parameters()),
            recipe=dump(run_folder.plain(recipe)),  # YAML can hold an infinite τ, JSON cannot
        )
        unlearned = torch.zeros(len(stream.class_names), dtype=torch.bool)
        self.recorder.add(
            "pretrained",
            retention=self.meter.retention(self.network.model),
            **self._ahead(None, unlearned),
        )
        return snapshot(self.network.model, "cpu"), unlearned

    def identity(self) -> dict[str, Any]:
        """What must be the same when the run goes on, see :mod:`clbench.runner.identity`."""
        test = self.meter.retention_test
        return {
            "class_names": list(self.stream.class_names),
            "tasks": [task.name for task in self.stream.tasks],
            "split_manifest_sha256": self.stream.manifest_hash,
            "retention_images_sha256": test and test.split.images.fingerprint(),
            "pretrained_sha256": self.network.pretrained.sha256,
        }

    def _take_up(self, checkpoint: dict[str, Any]) -> tuple[int, State, Tensor]:
        """Go on from a checkpoint: tasks done, weights to start from, rows learned."""
        done: int = checkpoint["done"]
        record = Record.load(self.folder)
        if not 0 < done <= len(self.stages):
            saved.refuse(self.folder, f"it is of task {done} of {len(self.stages)}")
        compare_recipe(record, self.recipe)
        for line in compare(record, self.identity(), self.stream.manifest):
            say(line)
        self._mend_manifest(record)
        like = self.network.model.state_dict()
        classes = len(self.stream.class_names)
        saved.check_fit(self.folder, checkpoint, like, len(self.stages), classes)
        if not checkpoints.summed(self.folder, done):
            say(f"The checkpoint in {self.folder} is of an older version: it has no checksum.")
        events = take_up(record, self.stages[done - 1].index, checkpoint)
        if self.recipe.checkpoints == "all":
            self.stored = checkpoints.stored(self.folder, done)
        self.recorder = Recorder(self.folder, events, writes=is_first())
        for name, method in self.named_methods.items():
            saved.take_up(self.folder, name, method, checkpoint["methods"])
        self.network.load(checkpoint["shown"])
        before, now = events[-1].get("processes"), make_trainer(self.recipe, 1).world_size
        how = (
            ""
            if before in (None, now)
            else f", on {now} process{'es' * (now > 1)} in place of {before}"
        )
        say(f"Resuming after task {done}/{len(self.stages)}{how}.")
        return done, checkpoint["theta"], checkpoint["learned"]

    def _manifest(self) -> str:
        return json.dumps(self.stream.manifest, indent=1)

    def _mend_manifest(self, record: Record) -> None:
        """Put ``split_manifest.json`` back; the data is the run's own, so that it is the same."""
        path, text = self.folder / "split_manifest.json", self._manifest()
        same = record.run.get("split_manifest_sha256") == self.stream.manifest_hash
        if same and is_first() and not (path.is_file() and path.read_bytes() == text.encode()):
            say(f"{path} was not the run's own any more: it is made again.")
            write_atomic(path, text)

    def _task(self, number: int, task: Task, theta: State, learned: Tensor) -> tuple[State, Tensor]:
        """Learn one task: returns the weights the next one starts from, and the rows learned."""
        began, clock = time.perf_counter(), Clock()
        recipe = self.recipe.for_task(task.name)
        for name, method in self.named_methods.items():
            method.take_settings(recipe.methods[name])
        title = f"Task {number}/{len(self.stages)} ({task.name})"
        seed_everything(recipe.seed, 1, task.index)
        self.stream.open(task, past=any(m.needs.past_data for m in self.methods))
        context, seen, batches = self._prepare(recipe, number, task, theta, learned, clock)
        self.meter = self.meter.through(context.transform)
        curve: list[Event] = []
        learner = Learner(
            context,
            self.methods,
            recipe,
            self.first_step,
            clock,
            self.meter.curve(context.model, recipe.eval_every, task, seen, curve)
            if recipe.eval_every
            else None,
            sum(self.steps) or None,
        )
        if self.steps and self.steps[number - 1] != context.total_steps:
            raise ClbenchError(
                f"schedule.over = 'stream': task {task.name} has {context.total_steps} steps, and "
                f"{self.steps[number - 1]} were counted before the first task, as a method changed "
                "what it trains on: say steps in place of epochs"
            )
        plan = plan_of(recipe, context.total_steps, self.first_step, sum(self.steps) or None)
        self._remark(number, task, plan)
        self._fit(learner, batches, recipe, title)
        for method in self.methods:
            with clock(method):
                method.finish(context)
        trained, theta, shown = self._deploy(context)
        self.first_step += learner.step_count
        finite.check_task(
            trained,
            (theta, shown),
            {name: method.state_dict() for name, method in self.named_methods.items()},
            [name for name, m in self.named_methods.items() if overriding([m], "deploy")],
            dict(self.network.model.named_parameters()),
            task.name,
        )
        self.network.load(shown)
        event = self._measure(context, learner, plan, seen, shown, curve)
        event["seconds"] = seconds = time.perf_counter() - began
        event["peak_memory_bytes"] = peak_memory(self.device)
        event["footprint"] = {
            name: footprint.measure(m, self.image_bytes, clock.of(m), seconds)
            for name, m in self.named_methods.items()
        }
        self.recorder.add("task", **event)
        self.meter.log(event, self.named_methods)
        say(f"{title}: {screen.line(event, self.stream.shared)}")
        scopes = {name: told.get("scope", 1) for name, told in event["methods"].items()}
        self._warn(scopes, f"task {task.name}")
        if is_first():
            self._save(number, context, {"trained": trained, "theta": theta, "shown": shown}, seen)
        return theta, seen

    def _remark(self, number: int, task: Task, plan: Plan) -> None:
        """Say before the first step what is known then of the methods."""
        for name, method in self.named_methods.items():
            for what, detail in method.remarks():
                say(f"Warning: {name}, task {task.name}: {what}: {detail}")
        # A schedule over the stream is another one in each task; else what holds in one that comes
        # before the method acts holds where it does.
        first = number if self.steps else len(self.stages)
        scopes = {n: m.scope(plan) for n, m in self.named_methods.items() if m.first_task <= first}
        self._warn(scopes, f"task {task.name}" if self.steps else "")

    def _warn(self, scopes: Mapping[str, float], where: str = "") -> None:
        """Say, once a run, which methods could do next to nothing."""
        for name, scope in scopes.items():
            if is_little(scope) and name not in self.warned:
                self.warned.add(name)
                means = self.named_methods[name].scope_means
                say(f"Warning: {sentence(name, scope, means, where)}")

    def _measure(
        self,
        context: Context,
        learner: Learner,
        plan: Plan,
        seen: Tensor,
        shown: State,
        curve: list[Event],
    ) -> Event:
        """What there is to record of a task; the network holds the weights that are shown."""
        model, task = self.network.model, context.task
        return {
            "task": task.index,
            "name": task.name,
            "last_step": self.first_step,
            **self.meter.test(model, task, seen),
            "validation": self.meter.validation(model, task, seen),
            "retention": self.meter.retention(model),
            **self._ahead(task, seen),
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
            "distance": distances(context, shown),
            "distance_over": "trunk",  # records without this are over all parameters
            "modes": modes(context.model),
            "loss": learner.run_loss,
            "processes": world_size(),
            "steps": learner.step_count,
            "samples": total(learner.sample_count, self.device),
        }

    def _ahead(self, task: Task | None, seen: Tensor) -> Event:
        """What there is to record of the tasks to come, where they are to be tested."""
        if self.recipe.evaluate == "seen":
            return {}
        return {"ahead": self.meter.ahead(self.network.model, task, seen)}

    def _save(self, number: int, context: Context, weights: dict[str, State], seen: Tensor) -> None:
        """Write the checkpoint of a task, with which it is finished."""
        anchors, before = vars(context.anchors), context.anchors.previous.state
        own = [*self.head, *statistics(self.network.model)]  # what a probe changes before a task
        state = {
            "done": number,
            "step": self.first_step,
            "stages": len(self.stages),
            "record_sha256": self.recorder.sha256,
            **weights,
            "learned": seen,
            "start": {"head": {name: before[name].cpu() for name in own}}
            | {name: anchor.learned.cpu() for name, anchor in anchors.items()},
        }
        methods = {name: m.state_dict() for name, m in self.named_methods.items()}
        keep = self.recipe.checkpoints
        checkpoints.save(self.folder, number, state, methods, keep, self.stored)

    def _prepare(
        self, recipe: Recipe, number: int, task: Task, theta: State, learned: Tensor, clock: Clock
    ) -> tuple[Context, Tensor, Batches]:
        """Everything up to the first step: weights, head, anchors, methods, batches."""
        network = self.network
        stream = self.stream
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
        anchors = network.anchors(theta, learned, rows & probed, rewinds or number == 1)
        model: nn.Module = network.model
        for method in overriding(self.methods, "surgery"):
            model = method.surgery(model)
        examples = Examples(task.train)
        for method in overriding(self.methods, "examples"):
            examples = method.examples(examples)
        batches = Batches(
            examples,
            recipe.batch_size,
            (recipe.seed, 3, task.index),
            recipe.images.workers,
            accumulated(recipe),
            smallest(recipe, model, self.head),
        )
        seen = learned | rows
        labels = [examples.labels, *(method.remembered_labels() for method in self.methods)]
        present, owner = torch.cat(labels).unique(), self.stream.task_of_class
        loss = ClassLoss(recipe.train_logits, present, owner, seen).to(self.device)
        context = Context(
            task=task,
            model=model,
            head=self.head,
            anchors=anchors,
            total_steps=count_steps(recipe, len(batches)),
            transform=network.transform(recipe),
            losses=loss,
            seed=derive(recipe.seed, 2, task.index),
            batch_size=recipe.batch_size,
            probe_losses=probe_losses,
            probe=recipe.model.probe,
            reading=Reading(recipe.eval_batch_size, recipe.images.workers, network.autocast),
            shared=stream.shared,
        )
        for method in self.methods:
            with clock(method):
                method.start(context)
        restrict = overriding(self.methods, "trainable")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(all(method.trainable(name) for method in restrict))
        return context, seen, batches

    def _fit(self, learner: Learner, batches: Batches, recipe: Recipe, title: str) -> None:
        learner.channels_last = self.network.channels_last
        learner.model.train()
        trainer = make_trainer(recipe, learner.context.total_steps, title, self.logger)
        fit(trainer, learner, batches)
        learner.to(self.device)
        if world_size() > 1:  # running statistics differ between processes
            for tensor in learner.model.state_dict().values():
                dist.broadcast(tensor, 0)

    def _deploy(self, context: Context) -> tuple[State, State, State]:
        """The trained weights, those the next task starts from, and those to evaluate."""
        surgeons = overriding(self.methods, "surgery")
        others = [m for m in self.methods if not overriding([m], "surgery")]
        trained, _ = deploy(surgeons, snapshot(context.model, "cpu"), context)

        averages = any(method.averages for method in self.methods)
        refresh = partial(self.refreshed, context) if averages else None
        return trained, *deploy(others, trained, context, refresh)

    def refreshed(self, context: Context, theta: State) -> State:
        """Averaged weights with the BatchNorm statistics that the recipe wants."""
        rule, size = self.recipe.model.batch_norm, self.recipe.eval_batch_size
        network = self.network
        pretrained = network.theta_pretrained
        return refresh_batch_norm(network.model, theta, rule, pretrained, context, size)
