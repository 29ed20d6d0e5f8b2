"""From a finished run's checkpoints through `deploy` again, with other settings of its methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from clbench.learner.deploy import deploy
from clbench.methods.base import Context, Method, overriding
from clbench.models.anchors import Anchor, Anchors
from clbench.models.loss import ClassLoss
from clbench.processes.processes import say
from clbench.recipe.recipe import Recipe
from clbench.record import checkpoints, saved
from clbench.record.record import Event, Record
from clbench.runner.identity import compare, compare_recipe, state_of, take_up
from clbench.runner.runner import Run
from clbench.seeding import derive


class Redeployment:
    """Measures what a run would have shown. Data and network are loaded once.

    Args:
        recipe: of the run.
        record: of the run; its folder holds the checkpoints.
        numbers: the tasks, from 1, whose weights are used: all, or the last.

    Raises:
        ClbenchError: if the data or the pretrained weights are not those of the run.
    """

    def __init__(self, recipe: Recipe, record: Record, numbers: list[int]) -> None:
        self.record, self.numbers = record, numbers
        self.run = Run(recipe, record.folder, resume=False, tries=False)
        self.compared = set[Path]()
        for line in compare(record, self.run.identity(), self.run.stream.manifest):
            say(line)
        compare_recipe(record, recipe)
        last = state_of(record.folder, numbers[-1], ("step",), self.compared)
        last |= checkpoints.load(record.folder, numbers[-1], ("record_sha256",), self.compared)
        take_up(record, self.run.stages[numbers[-1] - 1].index, last)

    def measure(self, recipe: Recipe, refresh: bool) -> Record:
        """The record that the run would have left by another recipe.

        It has the events of the tasks in ``numbers``. Before the last task only R[t, t] is
        measured: with the last row it makes OP and BWT.

        Args:
            recipe: the run's, with other settings of methods that act in `deploy` alone.
            refresh: whether BatchNorm's statistics are taken by ``model.batch_norm``.
        """
        named = {name: method.model_copy(deep=True) for name, method in recipe.methods.items()}
        if len(self.numbers) < len(self.run.stages):
            last = checkpoints.last(self.record.folder)
            assert last is not None
            # A method that the sweep adds has nothing to remember.
            states = {name: {} for name in named} | last["methods"]
            for name, method in named.items():
                if overriding([method], "deploy"):
                    saved.take_up(self.record.folder, name, method, states)
        events = [self._task(number, list(named.values()), refresh) for number in self.numbers]
        return Record(self.record.folder, (self.record.run, *events))

    def _task(self, number: int, methods: Sequence[Method], refresh: bool) -> Event:
        parts = ("trained", "learned", "start")
        state = state_of(self.record.folder, number, parts, self.compared)
        like = self.run.network.model.state_dict()
        classes = len(self.run.stream.class_names)
        saved.check_fit(self.record.folder, state, like, len(self.run.stages), classes)
        # What was saved fits the plain network: surgery is undone already.
        methods = [m for m in methods if not overriding([m], "surgery")]
        context = self._context(number, state, methods)
        refreshed = partial(self.run.refreshed, context) if refresh else None
        _, shown = deploy(methods, state["trained"], context, refreshed)
        self.run.network.load(shown)
        return self._measure(context, state["learned"], number == len(self.run.stages))

    def _context(self, number: int, state: dict[str, Any], methods: Sequence[Method]) -> Context:
        run, start = self.run, state["start"]
        network, task = run.network, run.stages[number - 1]
        recipe = run.recipe.for_task(task.name)
        run.stream.open(task, past=any(m.needs.past_data for m in run.methods))
        before = network.theta_pretrained
        if number > 1 and looks_back(methods) and not run.stream.independent:
            earlier = state_of(self.record.folder, number - 1, ("theta",), self.compared)
            before = earlier["theta"]
        rewound = run.stream.independent or any(method.rewinds for method in run.methods)
        head = {name: start["head"][name] for name in network.head}
        pretrained = network.theta_pretrained | (head if rewound or number == 1 else {})
        return Context(
            task=task,
            model=network.model,
            head=network.head,
            anchors=Anchors(
                Anchor(pretrained, start["pretrained"]),
                Anchor(before | start["head"], start["previous"]),
            ),
            total_steps=0,
            reader=network.reader(recipe),
            losses=ClassLoss(
                recipe.train_logits, task.train.labels, run.stream.task_of_class, state["learned"]
            ),
            seed=derive(recipe.seed, 2, task.index),
            batch_size=recipe.batch_size,
            probe=recipe.model.probe,
            shared=run.stream.shared,
        )

    def _measure(self, context: Context, seen: Tensor, last: bool) -> Event:
        run, task, model = self.run, context.task, context.model
        meter, event = run.meter, {"event": "task", "task": context.task.index}
        if last or run.stream.independent:
            event |= meter.test(model, task, seen)
            event["validation"] = meter.validation(model, task, seen)
        else:
            owner = run.stream.task_of_class
            found = meter.evaluator.accuracy(model, [task.test], owner, seen)
            event |= {"evaluated": [task.index], **asdict(found)}
        return event | {"retention": meter.retention(model) if last else None}


def looks_back(methods: Sequence[Method]) -> str:
    """By which setting methods read the previous task's trunk, in a run where it is not θ_*."""
    if any(method.rewinds for method in methods):
        return ""
    return next((method.looks_back for method in methods if method.looks_back), "")
