"""Measures rows of post-hoc methods after each task of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from clbench.errors import ClbenchError
from clbench.learner import footprint
from clbench.learner.footprint import Clock
from clbench.machine import peak_memory
from clbench.methods import name_of
from clbench.methods.base import Context, Method, overriding
from clbench.methods.plan import Plan
from clbench.methods.posthoc import hands_on
from clbench.models.anchors import Anchor, Anchors
from clbench.recipe.foreseen import plan_of, with_scope
from clbench.recipe.recipe import Recipe
from clbench.record import saved
from clbench.record.events import TaskEvent
from clbench.runner.identity import state_of
from clbench.runner.moved import distances
from clbench.runner.parts import Parts
from clbench.runner.setup import classified_by
from clbench.sweep.redeploy import Redeployment
from clbench.weights import State, snapshot

#: What there is to know of methods from whose result a run would have gone on.
NOT_TRAINED = "the task was not trained from what it made of the tasks before, as in a run with it"
PARTS = ("trained", "theta", "learned", "start")


class LaidRow:
    """Post-hoc methods that are laid on a run.

    Args:
        name: of the row, and of its folder.
        recipe: the run's with these methods behind its own.
        names: of these methods.

    Attributes:
        methods: the recipe's, which remember the tasks before.
        events: of the tasks so far.
        failure: why it came to an end; empty if it did not.
        theta: what would have been handed to the next task.
    """

    def __init__(self, name: str, recipe: Recipe, names: Sequence[str]) -> None:
        self.name, self.recipe, self.names = name, recipe, tuple(names)
        self.events: list[TaskEvent] = []
        self.failure = ""
        self.theta: State = {}
        self.begin()

    def begin(self) -> None:
        """Remember nothing."""
        self.methods = {n: m.model_copy(deep=True) for n, m in self.recipe.methods.items()}

    @property
    def added(self) -> list[Method]:
        """The methods that are laid on the run."""
        return [self.methods[name] for name in self.names]

    @property
    def hands_on(self) -> bool:
        """Whether a run would have gone on from what they make."""
        return any(hands_on(method) for method in self.added)


class Laying:
    """The tasks of a finished run one after the other, each for all rows.

    Args:
        run: the finished run, with its data and network.
    """

    def __init__(self, run: Redeployment) -> None:
        self.run, self.setup = run, run.setup
        #: Of tasks by number, 0 being before the first: the state that rows go on from.
        self.states: dict[int, dict[str, Any]] = {}
        self.number = 0

    def take_up(self, number: int, recorded: TaskEvent, keep: set[int]) -> None:
        """Go to a task.

        Args:
            number: of the task, from 1.
            recorded: what the run recorded of it.
            keep: numbers of tasks whose weights rows ask for later, too.
        """
        state = state_of(self.run.record.folder, number, PARTS, self.run.compared)
        like, count = self.setup.network.model.state_dict(), len(self.setup.stream.class_names)
        saved.check_fit(self.run.record.folder, state, like, len(self.setup.stages), count)
        theta = {n: x.cpu() for n, x in self.setup.network.theta_pretrained.items()}
        pretrained = {"trained": theta, "theta": theta}
        kept = {n: s for n, s in self.states.items() if n in keep | {number - 1}}
        self.states = {0: pretrained, **kept, number: state}
        self.number, self.recorded = number, recorded

    def measure(self, row: LaidRow) -> TaskEvent:
        """What a run with a row's methods would have recorded of the task."""
        setup, network = self.setup, self.setup.network
        rules = row.recipe.for_task(setup.stages[self.number - 1].name)
        if setup.stream.independent:  # nothing comes before a task
            row.begin()
        for name, method in row.methods.items():
            method.take_settings(rules.methods[name])
        source = self._source(row, self.number)
        steps = self.recorded.steps if source == self.number else 0
        parts, clock = Parts(network.device, network.passes), Clock()
        network.model.requires_grad_(True)
        network.flops.look(network.model)
        with parts("prepare"):
            context = self._context(row, steps)
            self._start(row, context, clock)
        with parts("finish"):
            trained = self._finish(row, self._trained(row, source), context, clock)
        with parts("deploy"):
            moved = row.recipe.ema > 0 and steps > 0
            averages = moved or any(method.averages for method in row.methods.values())
            weights = setup.deploy(list(row.methods.values()), trained, context, averages)
            row.theta = weights.carried
            network.load(weights.shown)
        found = self._measured(row, context, parts)
        found |= self._did(row, plan_of(rules, max(1, steps)), steps)
        found |= {"distance": distances(context, weights.shown), "seconds": parts.seconds}
        found |= {"parts": parts.found, "flops": network.flops.spent(parts.found, network.device)}
        found["peak_memory_bytes"] = peak_memory(network.device)
        found["footprint"] = self.recorded.footprint | {
            name: footprint.measure(
                row.methods[name], setup.image_bytes, clock.of(row.methods[name]), parts.seconds
            )
            for name in row.names
        }
        unknown = set(self.recorded.model_extra or ())
        return TaskEvent.made(**self.recorded.model_dump(exclude=unknown) | found)

    def _source(self, row: LaidRow, number: int) -> int:
        """The task, from 1, whose weights a row has after task ``number``; 0: the pretrained ones.

        Methods may say that nothing is trained, or nothing after the first task.
        """
        stops = [method.last_trained for method in row.added]
        return min([number, *(stop for stop in stops if stop is not None)])

    def _context(self, row: LaidRow, steps: int) -> Context:
        """What the methods see of the task, θ_o being what the row itself goes on from."""
        state, methods = self.states[self.number], list(row.methods.values())
        alone = self.setup.stream.independent or self.number == 1
        before = self.states[0 if alone else self._source(row, self.number - 1)]
        theta, start = before["theta"], state["start"]
        if row.hands_on and not alone:
            theta = row.theta
            learned = self.states[self.number - 1]["learned"]
            head = {n: _rows(start["head"][n], theta[n], learned) for n in self.setup.network.head}
            start = start | {"head": start["head"] | head}
        context = self.run.context(self.number, state | {"start": start}, methods, theta)
        if any(overriding(row.added, hook) for hook in ("start", "finish")):
            device = self.setup.network.device  # a method may compute with them
            anchors = context.anchors
            moved = Anchors(_at(anchors.pretrained, device), _at(anchors.previous, device))
            context = replace(context, anchors=moved)
            self.setup.network.load(moved.previous.state)
            self.setup.network.model.train()
        return replace(context, total_steps=steps)

    def _trained(self, row: LaidRow, source: int) -> State:
        """The run's weights; rows of the head that its training left alone are the row's own."""
        state = self.states[source]
        if not row.hands_on or self.number == 1 or self.setup.stream.independent:
            return state["trained"]
        start, found = state["start"]["head"], dict(state["trained"])
        learned = self.states[self.number - 1]["learned"]
        for name in self.setup.network.head:
            same = (found[name] == start[name]).view(len(learned), -1).all(1)
            found[name] = _rows(found[name], row.theta[name], learned & same)
        return found

    def _start(self, row: LaidRow, context: Context, clock: Clock) -> None:
        """Let methods prepare for the task, on the network as it began.

        Raises:
            ClbenchError: if one changes what the task started from.
        """
        for method in overriding(row.added, "start"):
            with clock(method):
                method.start(context)
            now = self.setup.network.model.state_dict()
            if any(not torch.equal(x, now[n]) for n, x in context.anchors.previous.state.items()):
                raise ClbenchError(
                    f"{name_of(method)} changes what a task starts from, which a finished run has "
                    "not been trained from: train with it"
                )

    def _finish(self, row: LaidRow, trained: State, context: Context, clock: Clock) -> State:
        """Let methods work on the trained network with the task's images at hand."""
        working = overriding(row.added, "finish")
        if not working:
            return trained
        self.setup.network.load(trained)
        self.setup.network.model.train()
        for method in working:
            with clock(method):
                method.finish(context)
        return snapshot(self.setup.network.model, "cpu")

    def _measured(self, row: LaidRow, context: Context, parts: Parts) -> dict[str, Any]:
        """The scores of the weights that the network holds."""
        setup, task, seen = self.setup, context.task, self.states[self.number]["learned"]
        meter = setup.meter.through(context.reader)
        evaluator = classified_by(meter.evaluator, list(row.methods.values()))
        meter, model = replace(meter, evaluator=evaluator), setup.network.model
        with parts("test"):
            found: dict[str, Any] = dict(meter.test(model, task, seen))
            found["validation"] = meter.validation(model, task, seen)
            if row.recipe.evaluate == "all":
                found["ahead"] = meter.ahead(model, task, seen)
        with parts("retention"):
            found |= {"retained": {}} | meter.retention(model)
        if meter.representation_test:
            with parts("representation"):
                found["representation"] = meter.representation(model, task)
        if evaluator.classifier:  # points within a task are of the head, which does not classify
            found["curve"] = []
        return found

    def _did(self, row: LaidRow, plan: Plan, steps: int) -> dict[str, Any]:
        """What the methods did, and how long training was before."""
        recorded = self.recorded
        remarks = [
            {"method": name, **remark._asdict()}
            for name in row.names
            for remark in row.methods[name].remarks()
        ]
        if self.number > 1:
            remarks += [
                {"method": m, "what": "laid on a finished run", "detail": NOT_TRAINED}
                for m in row.names
                if hands_on(row.methods[m])
            ]
        acts = {n: with_scope(m, m.activity(), plan, None) for n, m in row.methods.items()}
        found: dict[str, Any] = {
            "methods": {n: acts[n] if n in row.names else recorded.methods[n] for n in acts},
            "remarks": [remark.model_dump() for remark in recorded.remarks] + remarks,
        }
        if not steps and recorded.steps:  # of the run's steps, none is behind these weights
            source = self._source(row, self.number)
            last = self.run.record.tasks[source - 1].last_step if source else 0
            found |= {"steps": 0, "samples": 0, "last_step": last, "curve": [], "loss": None}
        return found


def _rows(ours: Tensor, theirs: Tensor, which: Tensor) -> Tensor:
    """Rows of a part of the head: ``theirs`` where told."""
    found = ours.clone()
    found[which] = theirs[which].to(found)
    return found


def _at(anchor: Anchor, device: torch.device) -> Anchor:
    """An anchor on another device."""
    state = {name: x.to(device) for name, x in anchor.state.items()}
    return Anchor(state, anchor.learned.to(device))
