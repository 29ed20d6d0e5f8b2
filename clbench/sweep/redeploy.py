"""From a finished run's checkpoints through `deploy` again, with other settings of its methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from clbench.errors import ClbenchError
from clbench.methods import name_of
from clbench.methods.base import Context, Method, overriding
from clbench.models.anchors import Anchor, Anchors
from clbench.models.loss import ClassLoss
from clbench.processes.processes import say
from clbench.recipe.recipe import Recipe
from clbench.record import checkpoints, saved
from clbench.record.events import TaskEvent
from clbench.record.record import Record, Scenario
from clbench.runner.identity import compare, compare_recipe, state_of, take_up, whole
from clbench.runner.setup import Setup
from clbench.weights import State, snapshot


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
        self.setup = Setup.of(recipe, record.folder)
        self.compared = set[Path]()
        refuse_classifiers(self.setup.methods, record.folder)
        if self.setup.meter.retention_test:
            self.setup.meter.retention_test.remember(self.setup.network.model)
        theta = snapshot(self.setup.network.model, "cpu")
        for stage in self.setup.stages[: numbers[-1]]:
            self.setup.recipe_of(stage)  # whose settings the methods take up
            theta = self.setup.network.adapt(self.setup.methods, stage, theta)
        for line in compare(record, self.setup.identity(), self.setup.stream.manifest):
            say(line)
        compare_recipe(record, recipe)
        #: The state after the last task, where it is the only one: it is read once for all values.
        self.only: dict[str, Any] | None = None
        if len(numbers) < len(self.setup.stages):
            found = checkpoints.last(record.folder, self.compared) or {}
            parts = {"step", "trained", "learned", "start"}
            last = self.only = whole(record.folder, numbers[-1], found, parts)
        else:
            last = state_of(record.folder, numbers[-1], ("step",), self.compared)
            last |= checkpoints.load(record.folder, numbers[-1], ("record_sha256",), self.compared)
        take_up(record, self.setup.stages[numbers[-1] - 1].index, last)

    def measure(self, recipe: Recipe, refresh: bool) -> Record:
        """The record that the run would have left by another recipe.

        It has the events of the tasks in ``numbers``. Before the last task only R[t, t] is
        measured: with the last row it makes OP and BWT.

        Args:
            recipe: the run's, with other settings of methods that act in `deploy` alone.
            refresh: whether BatchNorm's statistics are taken by ``model.batch_norm``.
        """
        named = _new(recipe)
        if self.only is not None:
            # A method that the sweep adds has nothing to remember.
            states = {name: {} for name in named} | deepcopy(self.only["methods"])
            for name, method in named.items():
                if overriding([method], "deploy"):
                    saved.remind(self.record.folder, name, method, states)
        events = []
        for number in self.numbers:
            if self.setup.stream.independent:  # nothing comes before a task
                named = _new(recipe)
            rules = recipe.for_task(self.setup.stages[number - 1].name)
            for name, method in named.items():
                method.take_settings(rules.methods[name])
            events.append(self._task(number, list(named.values()), refresh))
        return Record(self.record.folder, (self.record.run, *events))

    def of_weights(self, thetas: Mapping[int, State], refresh: bool) -> Record:
        """The record of a run that would have shown these weights.

        Args:
            thetas: for each task in ``numbers``.
            refresh: whether BatchNorm's statistics are taken by ``model.batch_norm``.
        """
        events = [self._task(n, [], refresh, thetas[n]) for n in self.numbers]
        return Record(self.record.folder, (self.record.run, *events))

    def validation(self, theta: State, by: Scenario) -> float:
        """The mean accuracy of weights on the images held out for validation, after the last task.

        Args:
            theta: the weights.
            by: the scenario.
        """
        context, seen = self._put(self.numbers[-1], [], True, theta)
        found = self.setup.meter.validation(self.setup.network.model, context.task, seen)
        assert found is not None
        accuracies: list[float] = found[by]
        return fmean(accuracies)

    def _task(
        self, number: int, methods: Sequence[Method], refresh: bool, theta: State | None = None
    ) -> TaskEvent:
        context, seen = self._put(number, methods, refresh, theta)
        return self._measure(context, seen, number == len(self.setup.stages))

    def _put(
        self, number: int, methods: Sequence[Method], refresh: bool, theta: State | None
    ) -> tuple[Context, Tensor]:
        """Give the network what a task shows, of weights, or of those that it trained."""
        parts, setup, absorb = ("trained", "learned", "start"), self.setup, self.only is None
        state = self.only or state_of(self.record.folder, number, parts, self.compared)
        like, count = setup.network.model.state_dict(), len(setup.stream.class_names)
        saved.check_fit(self.record.folder, state, like, len(setup.stages), count)
        context = self.context(number, state, methods)
        trained = state["trained"] if theta is None else theta
        weights = setup.deploy(methods, trained, context, refresh, absorb)
        setup.network.load(weights.shown)
        learned: Tensor = state["learned"]
        return context, learned

    def context(
        self,
        number: int,
        state: dict[str, Any],
        methods: Sequence[Method],
        before: State | None = None,
    ) -> Context:
        """What methods see of a task.

        Args:
            number: of the task, from 1.
            state: what its checkpoint holds, ``start`` and ``learned`` at least.
            methods: of which some may look back at θ_o.
            before: the weights that the task went on from; None: as far as they are looked at.
        """
        setup, start = self.setup, state["start"]
        network, task = setup.network, setup.stages[number - 1]
        recipe = setup.recipe.for_task(task.name)
        setup.stream.open(task, past=any(m.needs.past_data for m in setup.methods))
        if before is None:
            before = network.theta_pretrained
            if number > 1 and looks_back(methods) and not setup.stream.independent:
                earlier = state_of(self.record.folder, number - 1, ("theta",), self.compared)
                before = earlier["theta"]
        rewound = setup.stream.independent or any(method.rewinds for method in setup.methods)
        head = {name: start["head"][name] for name in network.head}
        pretrained = network.theta_pretrained | (head if rewound or number == 1 else {})
        anchors = Anchors(
            Anchor(pretrained, start["pretrained"]),
            Anchor(before | start["head"], start["previous"]),
        )
        owner, learned = setup.stream.task_of_class, state["learned"]
        labels, smoothing = task.train.labels, recipe.label_smoothing
        losses = ClassLoss(recipe.train_logits, labels, owner, learned, smoothing)
        return setup.context(recipe, task, network.model, anchors, losses)

    def _measure(self, context: Context, seen: Tensor, last: bool) -> TaskEvent:
        setup, task, model = self.setup, context.task, context.model
        meter, found = setup.meter.through(context.reader), dict[str, Any]()
        if last or setup.stream.independent:
            found |= meter.test(model, task, seen)
            found["validation"] = meter.validation(model, task, seen)
        else:
            owner = setup.stream.task_of_class
            tests = [one.test for one in setup.stream.tasks if one.index == task.index]
            alone = meter.evaluator.accuracy(model, tests, owner, seen)
            found |= {"first": task.index, **asdict(alone)}
        found |= {"retained": {}} | (meter.retention(model) if last else {"retention": None})
        recorded = next(event for event in self.record.tasks if event.task == task.index)
        unknown = set(recorded.model_extra or ())  # kept in the record, and nothing is made of them
        return TaskEvent.made(**recorded.model_dump(exclude=unknown) | found)


def _new(recipe: Recipe) -> dict[str, Method]:
    """Copies of a recipe's methods, which remember nothing yet."""
    return {name: method.model_copy(deep=True) for name, method in recipe.methods.items()}


def refuse_classifiers(methods: Sequence[Method], folder: Path) -> None:
    """Refuse runs whose head is not what classifies.

    Raises:
        ClbenchError: naming the method.
    """
    for method in overriding(methods, "classifier"):
        raise ClbenchError(
            f"{folder}: {name_of(method)} classifies by what it collected in the run, not by "
            "weights that could be changed afterwards: run again with other settings"
        )


def looks_back(methods: Sequence[Method]) -> str:
    """By which setting methods read the previous task's trunk, in a run where it is not θ_*."""
    if any(method.rewinds for method in methods):
        return ""
    return next((method.looks_back for method in methods if method.looks_back), "")
