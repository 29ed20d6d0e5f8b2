"""How a run starts: from the beginning, or from the checkpoint of its last finished task.

What a checkpoint holds is told here too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clbench.files.disk import write_atomic
from clbench.learner.deploy import Weights
from clbench.learner.trainer import make_trainer
from clbench.methods.context import Context
from clbench.methods.statements import traits
from clbench.models import finite
from clbench.models.batch_norm import statistics
from clbench.processes.processes import is_first, say
from clbench.recipe.recipe import Recipe
from clbench.record import checkpoints, saved
from clbench.record.events import VERSION, Event, PretrainedEvent, RunEvent, TaskEvent
from clbench.record.record import Record
from clbench.record.recorder import Recorder
from clbench.runner.folder import environment, plain
from clbench.runner.identity import compare, compare_recipe, take_up
from clbench.runner.setup import Setup
from clbench.streams import Stream
from clbench.text.yamltext import dump
from clbench.weights import State, snapshot


@dataclass(frozen=True)
class Progress:
    """What goes from task to task.

    Attributes:
        done: tasks.
        step: of the whole stream, the last one.
        theta: the weights that the next task starts from.
        learned: bool (C,), the classes learned so far.
    """

    done: int
    step: int
    theta: State
    learned: Tensor


def begin(setup: Setup, folder: Path) -> tuple[Recorder, Progress]:
    """Record what is about to happen."""
    recipe, stream, identity = setup.recipe, setup.stream, setup.identity()
    network = setup.network
    weights = {"source": network.pretrained.source, "sha256": identity["pretrained_sha256"]}
    if is_first():
        machine = environment(recipe, weights, identity["split_manifest_sha256"], network.device)
        write_atomic(folder / "environment.json", machine)
        write_atomic(folder / "split_manifest.json", _manifest(setup))
    recorder = Recorder(folder, writes=is_first())
    if warning := _single_classes(recipe, stream):
        say(f"Warning: {warning}")
    recorder.add(_about(setup, identity, weights, warning))
    unlearned = torch.zeros(len(stream.class_names), dtype=torch.bool)
    told = setup.meter.retention(network.model)
    if recipe.evaluate == "all":
        told["ahead"] = setup.meter.ahead(network.model, None, unlearned)
    before = PretrainedEvent.made(**told)
    recorder.add(before)
    setup.meter.log_pretrained(before)
    network.held = theta = snapshot(network.model, "cpu")
    return recorder, Progress(0, 0, theta, unlearned)


def _about(
    setup: Setup, identity: Mapping[str, Any], weights: Mapping[str, Any], warning: str
) -> RunEvent:
    """The record's first line: what is run, on what."""
    recipe, stream, network = setup.recipe, setup.stream, setup.network
    return RunEvent.made(
        version=VERSION,
        title=recipe.title,
        stream=recipe.stream.name,
        stream_version=recipe.stream.version,
        methods={
            name: finite.written(m.model_dump(mode="json")) for name, m in recipe.methods.items()
        },
        traits={name: traits(method) for name, method in recipe.methods.items()},
        seed=recipe.seed,
        backbone=recipe.model.backbone,
        options=recipe.model.options,
        size=recipe.images.size,
        weights=weights,
        split_manifest_sha256=identity["split_manifest_sha256"],
        retention_images_sha256=identity["retention_images_sha256"],
        retention_labels_sha256=identity["retention_labels_sha256"],
        tasks=identity["tasks"],
        test_images=[len(task.test) for task in stream.tasks],
        classes=[[task.classes.start, task.classes.stop] for task in stream.tasks],
        stages=setup.stages[0].stages,
        class_names=identity["class_names"],
        independent=stream.independent,
        shared_labels=stream.shared,
        test_on=recipe.stream.test_on,
        train_logits=recipe.train_logits,
        warnings=[warning] if warning else [],
        **({"step_trial": setup.step_trial.model_dump()} if setup.step_trial else {}),
        parameters=sum(p.numel() for p in network.model.parameters()),
        recipe=dump(plain(recipe)),  # YAML can hold an infinite τ, JSON cannot
    )


def checkpoint_of(
    setup: Setup, progress: Progress, recorder: Recorder, context: Context, weights: Weights
) -> dict[str, Any]:
    """What :func:`go_on` and sweeps need of a finished task, besides the methods' own.

    Args:
        setup: of the run.
        progress: after the task.
        recorder: which has recorded it.
        context: of the task.
        weights: that it ended with.
    """
    anchors, before = vars(context.anchors), context.anchors.previous.state
    own = [*setup.network.head, *statistics(setup.network.model)]  # what a probe changes before
    return {
        "done": progress.done,
        "step": progress.step,
        "stages": len(setup.stages),
        "record_sha256": recorder.sha256,
        "trained": weights.trained,
        "theta": weights.carried,
        "shown": weights.shown,
        "learned": progress.learned,
        "start": {"head": {name: before[name].cpu() for name in own}}
        | {name: anchor.learned.cpu() for name, anchor in anchors.items()},
    }


def go_on(setup: Setup, folder: Path, checkpoint: dict[str, Any]) -> tuple[Recorder, Progress]:
    """Take up a checkpoint, which must be that of this recipe, this data and these weights.

    Raises:
        ClbenchError: if it is not.
    """
    done, stages = checkpoint["done"], setup.stages
    record = Record.load(folder)
    if not 0 < done <= len(stages):
        saved.refuse(folder, f"it is of task {done} of {len(stages)}")
    compare_recipe(record, setup.recipe)
    for line in compare(record, setup.identity(), setup.stream.manifest):
        say(line)
    _mend_manifest(setup, record)
    if setup.meter.retention_test:
        setup.meter.retention_test.remember(setup.network.model)
    theta = snapshot(setup.network.model, "cpu")
    for stage in stages[:done]:
        setup.recipe_of(stage)  # whose settings the methods take up
        theta = setup.network.adapt(setup.methods, stage, theta)
    like = setup.network.model.state_dict()
    saved.check_fit(folder, checkpoint, like, len(stages), len(setup.stream.class_names))
    if not checkpoints.summed(folder, done):
        say(f"The checkpoint in {folder} is of an older version: it has no checksum.")
    events = take_up(record, stages[done - 1].index, checkpoint)
    for name, method in setup.named_methods.items():
        saved.remind(folder, name, method, checkpoint["methods"])
    recorder = Recorder(folder, events, writes=is_first())  # which cuts the record back
    setup.network.load(checkpoint["shown"])
    before, now = _processes(events), make_trainer(setup.recipe, 1).world_size
    moved = before not in (None, now)
    how = f", on {now} process{'es' * (now > 1)} in place of {before}" if moved else ""
    say(f"Resuming after task {done}/{len(stages)}{how}.")
    progress = Progress(done, checkpoint["step"], checkpoint["theta"], checkpoint["learned"])
    return recorder, progress


def _processes(events: Sequence[Event]) -> int | None:
    """How many processes learned the last task, where it is told."""
    return events[-1].processes if isinstance(events[-1], TaskEvent) else None


def _manifest(setup: Setup) -> str:
    return json.dumps(setup.stream.manifest, indent=1)


def _mend_manifest(setup: Setup, record: Record) -> None:
    """Put ``split_manifest.json`` back; the data is the run's own, so that it is the same."""
    path, text = record.folder / "split_manifest.json", _manifest(setup)
    same = record.run.split_manifest_sha256 == setup.stream.manifest_hash
    if same and is_first() and not (path.is_file() and path.read_bytes() == text.encode()):
        say(f"{path} was not the run's own any more: it is made again.")
        write_atomic(path, text)


def _single_classes(recipe: Recipe, stream: Stream) -> str:
    """A warning about tasks that teach nothing, as they are of one class; or nothing."""
    names = [task.name for task in stream.tasks if len(task.classes) == 1]
    if recipe.train_logits != "task" or not names:
        return ""
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return (
        f"train_logits = 'task': of one class alone, the loss is 0 and task-incremental accuracy "
        f"100 %, whatever the network does: {shown}; say train_logits: seen, or larger tasks"
    )
