"""What a recipe is worked on with: a run, a trial of it and a sweep over it share this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clbench.learner.deploy import Weights, deploy, refresh_batch_norm
from clbench.learner.trainer import make_trainer, quiet
from clbench.measure.evaluate import Evaluator
from clbench.measure.loggers import Loggers, check_loggers
from clbench.measure.meter import Meter
from clbench.measure.representation import RepresentationTest
from clbench.measure.retention import RetentionTest
from clbench.methods.base import Context, Method, overriding
from clbench.methods.files import refuse_missing
from clbench.models.anchors import Anchors
from clbench.models.loss import ClassLoss
from clbench.processes.processes import is_first
from clbench.recipe.per_task import check_names
from clbench.recipe.recipe import Recipe
from clbench.record.begun import StepTrial
from clbench.runner.compiling import settled, try_steps
from clbench.runner.network import Network
from clbench.runner.preflight import preflight
from clbench.runner.steps import check_tasks, stages_of
from clbench.seeding import derive
from clbench.streams import Stream, Task
from clbench.weights import State


@dataclass(frozen=True)
class Setup:
    """A recipe with its data, its network and what measures them.

    Attributes:
        recipe: what to do.
        stream: its tasks; images are to be seen once it is opened for one.
        stages: what is trained on, in order: the tasks, unless a method arranges them anew.
        named_methods: copies of the recipe's, which remember things.
        network: with the weights it starts from, on its device.
        meter: measures it.
        logger: all loggers; they begin when something is first logged.
        least: images that the network needs at a time.
        step_trial: what ``model.compile: auto`` chose when the run began; None: it was not asked.
    """

    recipe: Recipe
    stream: Stream
    stages: Sequence[Task]
    named_methods: dict[str, Method]
    network: Network
    meter: Meter
    logger: Loggers
    least: int = 1
    step_trial: StepTrial | None = None

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        folder: Path,
        done: int = 0,
        tries: bool = False,
        stream: Stream | None = None,
        elsewhere: str = "say --output",
        step_trial: StepTrial | None = None,
    ) -> Setup:
        """Load data and network.

        Args:
            recipe: what to do.
            folder: of the run; nothing is written there yet.
            done: finished tasks of a run that is gone on with.
            tries: whether what is known before the first step is tried before data is read.
            stream: the recipe's, where it is built already.
            elsewhere: how to say that the folder is to be on another disk.
            step_trial: that of a run that is gone on with; default: it is made, where asked for.

        Raises:
            ClbenchError: for anything the user can mend.
        """
        quiet()
        refuse_missing(recipe)
        methods = {name: m.model_copy(deep=True) for name, m in recipe.methods.items()}
        trainer = make_trainer(recipe, 1)
        device: torch.device = trainer.strategy.root_device
        autocast = trainer.precision_plugin.forward_context
        if tries:
            check_loggers(recipe)
        written = folder if is_first() else None  # on another host it may not be there
        least = preflight(recipe, written, trainer, elsewhere) if tries else 1
        stream = recipe.build_stream() if stream is None else stream
        for images in (stream.train_images, stream.test_images):
            images.move(device)
        stages = stages_of(list(methods.values()), stream)
        named = (*stream.tasks, *stream.later, *stages)
        check_names(list(recipe.per_task), [task.name for task in named])
        check_tasks(recipe, stages, least)
        if tries and step_trial is None:
            step_trial = try_steps(recipe, stages, least, device, trainer.world_size)
        copies = any(method.needs.copies for method in recipe.all_methods())
        anchors_at = device if copies else torch.device("cpu")
        representation = RepresentationTest.make(recipe, stream)
        network = Network(settled(recipe, step_trial), stream, device, anchors_at, autocast)
        logger = Loggers(folder, recipe, done)
        evaluator = Evaluator(network.reader(recipe), recipe.metrics)
        evaluator = classified_by(evaluator, list(methods.values()))
        retention = RetentionTest.make(recipe, stream, network.pretrained, evaluator, device)
        meter = Meter(stream, evaluator, retention, logger, representation)
        return cls(recipe, stream, stages, methods, network, meter, logger, least, step_trial)

    @property
    def image_bytes(self) -> int:
        """Of a stored image."""
        return self.stream.test_images.take(torch.tensor([0])).numel()

    @property
    def methods(self) -> list[Method]:
        """The methods, in order."""
        return list(self.named_methods.values())

    def recipe_of(self, task: Task) -> Recipe:
        """The recipe with the settings of a task, which the methods take up."""
        recipe = settled(self.recipe.for_task(task.name), self.step_trial)
        for name, method in self.named_methods.items():
            method.take_settings(recipe.methods[name])
        return recipe

    def context(
        self,
        recipe: Recipe,
        task: Task,
        model: nn.Module,
        anchors: Anchors,
        losses: ClassLoss,
        total_steps: int = 0,
        probe_losses: Tensor | None = None,
    ) -> Context:
        """What methods see of a task.

        Args:
            recipe: with the task's own settings.
            task: what is learned.
            model: the network, surgery included.
            anchors: θ_* and θ_o as they are at the start of the task.
            losses: the training loss.
            total_steps: of the optimiser, in the task.
            probe_losses: of the training images under the probed head, if it was.
        """
        network = self.network
        return Context(
            task=task,
            model=model,
            head=network.head,
            anchors=anchors,
            total_steps=total_steps,
            reader=network.reader(recipe),
            losses=losses.to(network.device),
            seed=derive(recipe.seed, 2, task.index),
            batch_size=recipe.batch_size,
            probe_losses=probe_losses,
            probe=recipe.model.probe,
            shared=self.stream.shared,
            first=self.stream.independent or task.index == self.stages[0].index,
            original_head=network.pretrained.head,
        )

    def deploy(
        self,
        methods: Sequence[Method],
        theta: State,
        context: Context,
        refresh: bool,
        absorb: bool = True,
    ) -> Weights:
        """The weights of a task, from those that were trained.

        Args:
            methods: in order; of some, a sweep has copies with other settings.
            theta: the weights, of the plain network.
            context: of the task.
            refresh: whether BatchNorm's statistics are taken by ``model.batch_norm``.
            absorb: whether methods have yet to remember the task.
        """
        refreshed = partial(self._refreshed, context) if refresh else None
        return deploy(methods, theta, context, refreshed, absorb)

    def _refreshed(self, context: Context, theta: State) -> State:
        network, rule = self.network, self.recipe.model.batch_norm
        return refresh_batch_norm(network.model, theta, rule, network.theta_pretrained, context)

    def identity(self) -> dict[str, Any]:
        """What must be the same when the run goes on, see :mod:`clbench.runner.identity`."""
        test = self.meter.retention_test
        return {
            "stream_version": self.recipe.stream.version,
            "class_names": list(self.stream.class_names),
            "tasks": [task.name for task in self.stream.tasks],
            "split_manifest_sha256": self.stream.manifest_hash,
            "retention_images_sha256": test and test.fingerprint(),
            "retention_labels_sha256": test and test.labels(),
            "pretrained_sha256": self.network.pretrained.sha256,
        }


def classified_by(evaluator: Evaluator, methods: Sequence[Method]) -> Evaluator:
    """The evaluator by the method that classifies in the head's place, if one does."""
    own = overriding(methods, "classifier")
    if not own:
        return evaluator
    return replace(evaluator, classifier=own[0].classifier, to_classify=own[0].to_classify)
