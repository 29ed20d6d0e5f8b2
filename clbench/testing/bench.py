"""Tiny runs to compare: two tasks of two digits, a small network, a second each."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from clbench.models.modes import evaluating, in_full_precision
from clbench.recipe.merging import merge
from clbench.recipe.recipe import Recipe, parse
from clbench.record.record import Record
from clbench.runner.identity import last_checkpoint
from clbench.runner.setup import Setup
from clbench.runner.tasks import Run
from clbench.weights import State, snapshot

#: Values of the recipe, but for the methods.
TINY: Mapping[str, Any] = {
    "stream": {
        "name": "split_digits",
        "classes": [[4, 5], [6, 7]],
        "train_per_class": 40,
        "test_per_class": 10,
    },
    "images": {"size": 8},
    "model": {
        "backbone": "tiny_cnn",
        "weights": "pretrain",
        "options": {"width": 8},
        "pretraining": {"epochs": 3},
    },
    "optimizer": {"name": "adamw", "lr": 0.02},
    "steps": 8,
    "batch_size": 16,
    "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
}


class Bench:
    """Makes tiny runs in a folder; final.

    Args:
        folder: for their records and checkpoints.
        values: of a recipe, on top of :data:`TINY`.
    """

    def __init__(self, folder: Path, values: Mapping[str, Any]) -> None:
        self.folder = folder
        tiny = copy.deepcopy(dict(TINY))
        if "backbone" in values.get("model", {}):
            tiny["model"]["options"] = {}  # they are the small network's own
        self.values = merge(merge(tiny, {"data_dir": str(folder)}), values)
        self._numbers = itertools.count(1)

    def recipe(self, methods: Mapping[str, Any]) -> Recipe:
        """The recipe with methods, by name to their settings.

        Raises:
            ClbenchError: if it is refused.
        """
        return parse({**self.values, "methods": dict(methods)})

    def run(self, recipe: Recipe, stops: bool = False) -> Made:
        """A run from beginning to end.

        Args:
            recipe: what is run.
            stops: whether it stops after its first task, and goes on as another run.
        """
        folder = self.folder / f"run{next(self._numbers)}"
        folder.mkdir()
        with redirect_stdout(io.StringIO()):
            run = Run(Setup.of(recipe, folder), folder)
            run.learn(run.setup.stages[: 1 if stops else None])
            if stops:
                run.setup.logger.close()
                checkpoint = last_checkpoint(folder)
                assert checkpoint is not None
                setup = Setup.of(recipe, folder, checkpoint["done"])
                run = Run(setup, folder, checkpoint)
                run.learn(setup.stages[1:])
            run.setup.logger.close()
        return Made(run)


class Made:
    """What a run has left; final.

    Args:
        run: at its end.

    Attributes:
        record: of the run.
        model: of the run.
        weights: that were evaluated last.
        methods: those of the run, by name.
        images: of a batch, as the network is given them.
        logits: of these, by the head or by what classifies in its place.
    """

    def __init__(self, run: Run) -> None:
        self.record: Record = run.recorder.record.ended()
        self.model = run.network.model
        self.weights: State = snapshot(self.model, "cpu")
        self.methods = run.named_methods
        split, reader = run.setup.stream.tasks[0].test, run.network.reader(run.setup.recipe)
        self.images = next(iter(reader.batches(split, run.network.device))).inputs
        evaluator = run.meter.evaluator
        classify = evaluator.classifier() if evaluator.classifier else None
        with evaluating(self.model), torch.no_grad():
            found = evaluator.to_classify(self.model, self.images)
            self.logits = (
                in_full_precision(classify, found) if classify else self.model(self.images)
            )

    def unlike_weights(self, other: Made) -> str:
        """Which weights of another run are not the same bit for bit; empty if all are."""
        ours, theirs = self.weights, other.weights
        if ours.keys() != theirs.keys():
            names = sorted(ours.keys() ^ theirs.keys())
            return f"{names[0]} and {len(names) - 1} more weights are in one of the networks only"
        wrong = [name for name in ours if not torch.equal(ours[name], theirs[name])]
        return f"{wrong[0]} and {len(wrong) - 1} more weights differ" if wrong else ""

    def unlike(self, other: Made) -> str:
        """What of another run is not the same bit for bit, in words; empty if all is."""
        if wrong := self.unlike_weights(other):
            return wrong
        if not torch.equal(self.logits, other.logits):
            return "the weights are the same, but what is made of images by them is not"
        ours, theirs = comparable(self.record), comparable(other.record)
        keys = [key for key in ours if ours[key] != theirs[key]]
        return f"the weights are the same, but the record's {keys[0]} is not" if keys else ""


def comparable(record: Record) -> dict[str, Any]:
    """The summary of a run without what is measured with a clock or in memory.

    Nor with FLOPs: of the passes of a method that is watched, some are only looks at it.
    """
    summary = record.summary()
    for measured in ("seconds", "seconds_by_part", "peak_memory_bytes", "flops"):
        del summary["cost"][measured]
    del summary["footprint"]["time_share"]
    return summary


@contextmanager
def row(table: MutableMapping[str, Any], name: str, kind: Any) -> Iterator[None]:
    """Have a row in a table for a while, if it is not there anyway."""
    before = table.get(name)
    table[name] = kind
    try:
        yield
    finally:
        if before is None:
            del table[name]
        else:
            table[name] = before
