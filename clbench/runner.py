"""The way through: recipe → stream → for each task train, deploy, evaluate, record → summary."""

from __future__ import annotations

import logging
import math
import resource
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from clbench import folder as run_folder
from clbench import report
from clbench.anchors import Anchor, Anchors
from clbench.data.batches import Batches, Examples, Split
from clbench.data.transforms import Transform
from clbench.errors import ClbenchError
from clbench.evaluate import Evaluator, Scores, world_size
from clbench.learner import Learner
from clbench.method import Context, Method, overriding
from clbench.models import backbone
from clbench.models.training import extract, linear_probe, pretrain
from clbench.progress import TaskProgress
from clbench.record import SCENARIOS, Event, Record, Recorder, write_atomic
from clbench.recipe import Recipe, parse
from clbench.retention import RetentionTest
from clbench.seeding import derive, seed_everything
from clbench.streams import Task
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
    folder = run_folder.choose(recipe, Path(output) if output is not None else None, resume)
    try:
        if rank_zero_only.rank in (None, 0):
            run_folder.open_folder(folder, recipe, resume)
        if resume and (folder / "record.jsonl").exists() and Record.load(folder).finished:
            say(f"The run in {folder} is already finished.")
        else:
            Run(recipe, folder, resume).go()
    finally:
        run_folder.release()
    record = Record.load(folder)
    if rank_zero_only.rank in (None, 0):
        report.show(record)
    return record


def say(line: str) -> None:
    """Print a line, on the first process only."""
    if rank_zero_only.rank in (None, 0):
        print(line, flush=True)


class Run:
    """One run in progress.

    Args:
        recipe: what to do.
        folder: the run folder; it exists and holds ``config.yaml``.
        resume: whether to go on from a checkpoint in it.
    """

    def __init__(self, recipe: Recipe, folder: Path, resume: bool) -> None:
        self.recipe, self.folder = recipe, folder
        _quiet()
        self.checkpoint = run_folder.last_checkpoint(folder) if resume else None
        self.methods: dict[str, Method] = {
            name: type(method).model_validate(method.model_dump())
            for name, method in recipe.methods.items()
        }
        probe = self._trainer(recipe, 1, None)
        self.device: torch.device = probe.strategy.root_device
        self.precision = probe.precision_plugin

        self.stream = recipe.stream.build(recipe.data_dir, recipe.images)
        for images in (self.stream.train_images, self.stream.test_images):
            images.move(self.device)
        self.classes = len(self.stream.class_names)
        self.stages = self._stages()
        self.evaluates_validation = len(self.stages[0].validation) > 0

        seed_everything(recipe.seed)
        self.pretrained = backbone.load(
            recipe.model, self.classes, recipe.images.size, self._pretraining()
        )
        self.model = self.pretrained.model.to(self.device)
        self.transform = self._transform(recipe)
        self.evaluator = Evaluator(
            self.transform,
            recipe.eval_batch_size,
            recipe.images.workers,
            self.precision.forward_context,
        )
        wanted = recipe.model.channels_last
        self.channels_last = (
            backbone.prefers_channels_last(self.model, self.device) if wanted is None else wanted
        )
        self.head = backbone.head_names(self.model)
        self.retention = RetentionTest.make(
            recipe, self.stream, self.pretrained, self.evaluator, self.device
        )
        copies = any(method.needs.copies for method in self.methods.values())
        self.anchor_device = self.device if copies else torch.device("cpu")
        self.theta_pretrained = snapshot(self.model, self.anchor_device)
        self.logger = TensorBoardLogger(folder.parent, name=folder.name, version="")
        self.first_step = 0

    def go(self) -> None:
        """Train on every task that is left, and write what a run leaves behind."""
        theta, learned = self._begin()
        done = len(self.recorder.events) and sum(
            event["event"] == "task" for event in self.recorder.events
        )
        for task in self.stages[done:]:
            theta, learned = self._task(task, theta, learned)
        self._end()

    def _begin(self) -> tuple[State, Tensor]:
        """The weights to start from, and which rows of the head are learned."""
        if self.checkpoint is not None:
            finished = self.checkpoint["tasks"]
            events = Record.load(self.folder).events
            last = max(
                i for i, e in enumerate(events) if e["event"] == "task" and e["task"] == finished[-1]
            )
            self._open_recorder(events[: last + 1])
            for name, method in self.methods.items():
                method.load_state_dict(self.checkpoint["methods"][name])
            self.first_step = self.checkpoint["step"]
            say(f"Resuming after task {len(finished)}/{len(self.stages)}.")
            self.model.load_state_dict(self.checkpoint["shown"])
            return self.checkpoint["theta"], self.checkpoint["learned"]
        self._open_recorder(())
        stream, recipe = self.stream, self.recipe
        weights = {"source": self.pretrained.source, "sha256": self.pretrained.sha256}
        if rank_zero_only.rank in (None, 0):
            text = run_folder.environment(weights, stream.manifest_hash, self.device)
            write_atomic(self.folder / "environment.json", text)
            write_atomic(self.folder / "split_manifest.json", _json(stream.manifest))
        self._record(
            "run",
            title=recipe.title,
            stream=recipe.stream.name,
            methods={name: m.model_dump(mode="json") for name, m in recipe.methods.items()},
            seed=recipe.seed,
            backbone=recipe.model.backbone,
            options=recipe.model.options,
            size=recipe.images.size,
            weights=weights,
            split_manifest_sha256=stream.manifest_hash,
            tasks=[task.name for task in stream.tasks],
            class_names=list(stream.class_names),
            independent=stream.independent,
            train_logits=recipe.train_logits,
            parameters=sum(p.numel() for p in self.model.parameters()),
        )
        if self.retention is not None:
            self._record("pretrained", retention=self.retention.measure(self.model))
        return snapshot(self.model, "cpu"), torch.zeros(self.classes, dtype=torch.bool)

    def _task(self, task: Task, theta: State, learned: Tensor) -> tuple[State, Tensor]:
        """Learn one task: returns the weights the next one starts from, and the rows learned."""
        began = time.perf_counter()
        recipe = self.recipe.for_task(task.name)
        number = self.stages.index(task) + 1
        title = f"Task {number}/{len(self.stages)} ({task.name})"
        seed_everything(recipe.seed, 1, task.index)
        self.stream.open(task, past=any(m.needs.past_data for m in self.methods.values()))

        rewinds = self.stream.independent or any(m.rewinds for m in self.methods.values())
        self._load(self._rewound(theta) if rewinds else theta)
        from_pretrained = rewinds or number == 1
        learned = learned & ~torch.tensor(self.stream.independent)
        rows = torch.zeros_like(learned)
        rows[task.classes.start : task.classes.stop] = True
        probe_losses = self._probe(task, recipe) if recipe.model.head == "linear_probe" else None
        known = learned | rows if probe_losses is not None else learned
        anchors = Anchors(
            self._anchor(self.theta_pretrained, known & rows if from_pretrained else known & ~known),
            self._anchor(snapshot(self.model, self.anchor_device), known),
        )
        seen = learned | rows

        model = self.model
        for method in overriding(self._list, "surgery"):
            model = method.surgery(model)
        transform = self._transform(recipe)
        context = Context(
            task=task,
            model=model,
            head=self.head,
            anchors=anchors,
            total_steps=0,
            transform=transform,
            seed=derive(recipe.seed, 2, task.index),
            batch_size=recipe.batch_size,
            probe_losses=probe_losses,
        )
        examples = Examples(task.train)
        for method in overriding(self._list, "examples"):
            examples = method.examples(examples)
        batches = Batches(
            examples, recipe.batch_size, (recipe.seed, 3, task.index), recipe.images.workers
        )
        context = replace(context, total_steps=_total_steps(recipe, len(batches)))
        for method in self.methods.values():
            method.start(context)
        restrict = overriding(self._list, "trainable")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(all(method.trainable(name) for method in restrict))

        curve: list[Event] = []
        learner = Learner(
            model,
            self._list,
            recipe,
            examples,
            self.stream.task_of_class,
            seen,
            self.head,
            transform,
            context.total_steps,
            self.first_step,
            self._curve_every(model, recipe, task, seen, curve) if recipe.eval_every else None,
        )
        self._fit(learner, batches, recipe, title)
        for method in self.methods.values():
            method.finish(context)
        theta, shown = self._deploy(context)
        self.first_step += learner.step_count
        self._load(shown)
        scores = self._evaluate(task, seen)
        event = {
            "task": task.index,
            "name": task.name,
            "last_step": self.first_step,
            **scores,
            "validation": self._validation(task, seen),
            "retention": self.retention.measure(self.model) if self.retention else None,
            "curve": curve,
            "methods": {name: dict(m.activity()) for name, m in self.methods.items()},
            "loss": float(learner.last_loss) if learner.last_loss is not None else None,
            "steps": learner.step_count,
            "samples": learner.sample_count * world_size(),
            "seconds": time.perf_counter() - began,
            "peak_memory_bytes": _peak_memory(self.device),
        }
        self._record("task", **event)
        self._log(event)
        say(_line(title, event))
        if rank_zero_only.rank in (None, 0):
            state = {
                "tasks": [stage.index for stage in self.stages[:number]],
                "step": self.first_step,
                "theta": theta,
                "shown": theta if shown is theta else shown,
                "learned": seen,
                "methods": {name: m.state_dict() for name, m in self.methods.items()},
            }
            run_folder.save_checkpoint(self.folder, number, state)
        return theta, seen

    def _fit(self, learner: Learner, batches: Batches, recipe: Recipe, title: str) -> None:
        learner.channels_last = self.channels_last
        if self.channels_last:
            learner.model.to(memory_format=torch.channels_last)
        learner.model.train()
        trainer = self._trainer(recipe, learner.total_steps, title)
        try:
            trainer.fit(learner, train_dataloaders=batches)
        except SystemExit as error:
            if not trainer.interrupted:
                raise
            raise KeyboardInterrupt from error
        learner.model.to(self.device)
        if world_size() > 1:  # running statistics differ between processes
            for tensor in learner.model.state_dict().values():
                dist.broadcast(tensor, 0)

    def _deploy(self, context: Context) -> tuple[State, State]:
        """The weights the next task starts from, and those to evaluate."""
        theta = shown = snapshot(context.model, "cpu")
        for method in overriding(self._list, "deploy"):
            deployed = method.deploy(shown, context)
            if method.carries:
                theta = deployed if shown is theta else method.deploy(theta, context)
            shown = deployed
        if any(method.averages for method in self.methods.values()):
            rule = self.recipe.model.batch_norm
            same = shown is theta
            shown = self._batch_norm(shown, rule, context)
            theta = shown if same else self._batch_norm(theta, rule, context)
        return theta, shown

    def _batch_norm(self, theta: State, rule: str, context: Context) -> State:
        norms = {
            name: module
            for name, module in self.model.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
        }
        if rule == "average" or not norms:
            return theta
        if rule == "pretrained":
            names = [f"{n}.{k}" for n in norms for k in ("running_mean", "running_var")]
            return theta | {name: self.theta_pretrained[name].cpu() for name in names}
        self._load(theta)
        momenta = {name: module.momentum for name, module in norms.items()}
        for module in norms.values():
            module.reset_running_stats()
            module.momentum = None  # a plain mean over all batches
            module.train()
        with torch.no_grad():
            for index in context.task.train.index.split(self.recipe.eval_batch_size):
                images = context.task.train.images.take(index).to(self.device)
                self.model(self.transform.test(images))
        for name, module in norms.items():
            module.momentum = momenta[name]
        return snapshot(self.model, "cpu")

    def _evaluate(self, task: Task, seen: Tensor) -> dict[str, Any]:
        tasks = self._seen_tasks(task)
        return self._score(self.model, Split.joined([t.test for t in tasks]), tasks, seen)

    def _validation(self, task: Task, seen: Tensor) -> dict[str, Any] | None:
        if not self.evaluates_validation:
            return None
        tasks = self._seen_tasks(task)
        return self._score(self.model, Split.joined([t.validation for t in tasks]), tasks, seen)

    def _score(
        self, model: nn.Module, split: Split, tasks: Sequence[Task], seen: Tensor
    ) -> dict[str, Any]:
        numbers = [task.index for task in tasks]
        scores: Scores = self.evaluator.accuracy(
            model, split, self.stream.task_of_class, numbers, seen
        )
        return {"evaluated": numbers, **{name: getattr(scores, name) for name in SCENARIOS}}

    def _seen_tasks(self, task: Task) -> list[Task]:
        if self.stream.independent:
            return [task]
        return [t for t in self.stream.tasks if t.index <= task.index]

    def _curve_every(
        self, model: nn.Module, recipe: Recipe, task: Task, seen: Tensor, curve: list[Event]
    ) -> Any:
        split = Split.joined([t.test for t in self._seen_tasks(task)])

        def on_step(step: int) -> None:
            assert recipe.eval_every is not None
            if step % recipe.eval_every:
                return
            if world_size() > 1:
                for buffer in model.buffers():
                    dist.broadcast(buffer, 0)
            point = self._score(model, split, self._seen_tasks(task), seen)
            curve.append({"step": step, **point})
            self._log_accuracies(point, step)

        return on_step

    def _probe(self, task: Task, recipe: Recipe) -> Tensor:
        """Train the task's rows of the head on frozen features; returns the samples' losses."""
        found = extract(
            self.model,
            task.train,
            self.transform,
            recipe.eval_batch_size,
            recipe.images.workers,
            self.precision.forward_context,
        )
        first = task.classes.start
        head, losses = linear_probe(
            found,
            task.train.labels - first,
            len(task.classes),
            recipe.model.probe,
            recipe.seed,
            4,
            task.index,
        )
        state = self.model.state_dict()
        with torch.no_grad():
            for name in self.head:
                part = getattr(head, name.rsplit(".", 1)[-1])
                state[name][first : task.classes.stop] = part
        return losses

    def _anchor(self, state: State, learned: Tensor) -> Anchor:
        return Anchor(state, learned.to(self.anchor_device))

    def _rewound(self, theta: State) -> State:
        if self.stream.independent:
            return self.theta_pretrained
        return self.theta_pretrained | {name: theta[name] for name in self.head}

    def _load(self, state: State) -> None:
        self.model.load_state_dict(state)
        self.model.to(self.device)

    def _stages(self) -> list[Task]:
        stages: Sequence[Task] = self.stream.tasks
        for method in overriding(self._list, "arrange"):
            stages = method.arrange(stages)
        return list(stages)

    @property
    def _list(self) -> list[Method]:
        return list(self.methods.values())

    def _transform(self, recipe: Recipe) -> Transform:
        images = recipe.images
        return Transform(
            images.size,
            images.mean or self.pretrained.mean,
            images.std or self.pretrained.std,
            recipe.augment,
        )

    def _pretraining(self) -> State | None:
        if self.recipe.model.weights != "pretrain":
            return None
        mean = self.recipe.images.mean or (0.5,) * 3
        std = self.recipe.images.std or (0.5,) * 3
        plain = Transform(self.recipe.images.size, mean, std, self.recipe.augment)
        cache = self.recipe.data_dir / "cache"
        return pretrain(
            self.recipe.model, self.stream, plain, self.recipe.seed, self.device, cache, say
        )

    def _trainer(self, recipe: Recipe, total_steps: int, title: str | None) -> L.Trainer:
        arguments: dict[str, Any] = {
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": max(1, min(50, total_steps // 10)),
        } | recipe.trainer
        shows = title is not None and arguments.get("enable_progress_bar", True)
        arguments["enable_progress_bar"] = shows
        return L.Trainer(
            **arguments,
            max_epochs=recipe.epochs if recipe.epochs is not None else -1,
            max_steps=recipe.steps if recipe.steps is not None else -1,
            logger=False if title is None else self.logger,
            callbacks=[TaskProgress(title)] if shows and title is not None else [],
            use_distributed_sampler=False,
        )

    def _open_recorder(self, keep: tuple[Event, ...]) -> None:
        if rank_zero_only.rank in (None, 0):
            self.recorder: Any = Recorder(self.folder, keep)
        else:
            self.recorder = _Silent(list(keep))

    def _record(self, event: str, **values: Any) -> None:
        self.recorder.add(event, **values)

    def _log(self, event: Event) -> None:
        step = event["last_step"]
        self._log_accuracies(event, step)
        values = {}
        for scenario in SCENARIOS:
            values[f"scores/{scenario}/mean_of_seen_tasks"] = sum(event[scenario]) / len(
                event[scenario]
            )
        if event["retention"]:
            values |= {f"retention/{k}": v for k, v in event["retention"].items()}
        for name, activity in event["methods"].items():
            values |= {f"methods/{name}/{key}": value for key, value in activity.items()}
        self.logger.log_metrics(values, step)
        self.logger.save()

    def _log_accuracies(self, point: Event, step: int) -> None:
        for scenario in SCENARIOS:
            values = {
                f"{scenario}/task_{task + 1:02}": accuracy
                for task, accuracy in zip(point["evaluated"], point[scenario], strict=True)
            }
            self.logger.log_metrics(values, step)

    def _end(self) -> None:
        self._record("end")
        if rank_zero_only.rank not in (None, 0):
            return
        record = Record.load(self.folder)
        report.write(record, self.logger.experiment)
        report.export(record, self.model)
        self.logger.finalize("success")


class _Silent:
    """Stands in for the recorder on all processes but the first."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    def add(self, event: str, **values: Any) -> None:
        self.events.append({"event": event, **values})


def _total_steps(recipe: Recipe, batches: int) -> int:
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None
    accumulate = int(recipe.trainer.get("accumulate_grad_batches", 1))
    return recipe.epochs * math.ceil(batches / accumulate)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _line(title: str, event: Event) -> str:
    own = event["evaluated"].index(event["task"])
    mean = sum(event["task_incremental"]) / len(event["task_incremental"])
    parts = [
        f"accuracy {event['task_incremental'][own]:.1%}",
        f"mean of seen tasks {mean:.1%} (class-incremental "
        f"{sum(event['class_incremental']) / len(event['class_incremental']):.1%})",
    ]
    if event["retention"]:
        parts.append(f"retention {event['retention']['top1']:.1%}")
    parts.append(f"{event['seconds']:.1f} s")
    return f"{title}: {', '.join(parts)}"


def _json(values: Any) -> str:
    import json

    return json.dumps(values, indent=1)


def _quiet() -> None:
    """Keep Lightning's tips and its advice on things clbench does on purpose off the screen."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*No positive lr.*",
        ".*GPU available but not used.*",
        ".*Checkpoint directory.*",
    ):
        warnings.filterwarnings("ignore", message)
    torch.set_float32_matmul_precision("high")
