"""A finished run's network from its exported weights, where timm alone cannot make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import load_file
from torch import Tensor, nn

import clbench.models  # noqa: F401  (registers the tiny backbones)
from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.methods.base import Method, overriding
from clbench.models.modes import in_full_precision
from clbench.plugins.installed import load_installed
from clbench.plugins.loading import load
from clbench.record import checkpoints
from clbench.runner.products import WEIGHTS
from clbench.streams.base import Task, Withheld


class Classified(nn.Module):
    """A network whose features are classified by a method in the head's place; final."""

    def __init__(
        self, model: nn.Module, method: Method, classify: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.model, self.method, self.classify = model, method, classify

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, S, S)."""
        return in_full_precision(self.classify, self.method.to_classify(self.model, images))


def rebuilt(
    folder: Path,
    backbone: str,
    options: Mapping[str, Any],
    methods: Mapping[str, Mapping[str, Any]],
    tasks: Sequence[tuple[int, str, list[int] | None]],
    per_task: Mapping[str, Mapping[str, Mapping[str, Any]]],
    plugins: Sequence[str] = (),
    stages: int | None = None,
) -> nn.Module:
    """The network of a run in evaluation mode, with what methods added to it.

    Args:
        folder: of the run.
        backbone, options: for timm.
        methods: those that add to the network or classify, with their settings, in order.
        tasks: index, name and classes of each that was learned, in order.
        per_task: by task, the settings of methods that are others in it.
        plugins: that are to be loaded before.
        stages: how many tasks the whole stream had; None: those that were learned.

    Raises:
        ClbenchError: if a plugin cannot be loaded, what classifies was not kept, or a method adds
            to the network by what the run folder has not.
    """
    load_installed()
    load(plugins)
    made = {name: METHODS[name](**settings) for name, settings in methods.items()}
    model: nn.Module = timm.create_model(backbone, **options)
    for stage, (index, task, classes) in enumerate(tasks):
        for name, method in made.items():
            own = per_task.get(task, {}).get(name, methods[name])
            method.take_settings(METHODS[name](**own))
        now = _task(folder, index, task, classes)
        now = replace(now, stage=stage, stages=stages or len(tasks))
        for method in overriding(list(made.values()), "adapt"):
            model = method.adapt(model, now)
    model.load_state_dict(load_file(folder / WEIGHTS))
    for name, method in made.items():
        if overriding([method], "classifier"):
            model = Classified(model, method, _classifier(folder, name, method))
    return model.eval()


def _task(folder: Path, index: int, name: str, classes: list[int] | None) -> Task:
    """A task without its images.

    Raises:
        ClbenchError: if nobody knows its classes.
    """
    if classes is None:
        raise ClbenchError(
            f"{folder}: its record does not tell the classes of task {name}, which methods may add "
            "to the network by: run again, with this clbench"
        )
    images = Withheld(
        f"{folder}: a method's `adapt` asks for images of task {name}, which load_model.py has "
        "not: let what is added depend on settings and on the task's index, name and classes alone"
    )
    return Task(index, name, range(*classes), images, images, images)


def _classifier(folder: Path, name: str, method: Method) -> Callable[[Tensor], Tensor]:
    last = checkpoints.last(folder)
    if last is None:
        raise ClbenchError(
            f"{folder}: {name} classifies in place of the head, by what its checkpoint holds, "
            "and there is none: run again with checkpoints: last"
        )
    method.load_state_dict(last["methods"][name])
    classify = method.classifier()
    assert classify is not None
    return classify
