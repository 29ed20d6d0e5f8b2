"""The recipe of a run: every setting, typed, checked and documented in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator
from pydantic_core import PydanticCustomError

from clbench.data.transforms import Augment
from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.methods.base import Method
from clbench.methods.together import refuse_clashes, refuse_settings
from clbench.metrics import METRICS
from clbench.metrics.retained import MEASURES
from clbench.models import ModelConfig
from clbench.optim.settings import Optimizer, Schedule
from clbench.recipe import attached, trainer_arguments
from clbench.recipe.classes import RecipeClasses
from clbench.recipe.early_stopping import EarlyStopping
from clbench.recipe.merging import merge
from clbench.recipe.named import methods_by_name, metrics_by_name, stream_by_name
from clbench.recipe.per_task import check_settings
from clbench.recipe.representation import Representation
from clbench.recipe.retention import Retention
from clbench.record.baselines import PLAIN
from clbench.record.checkpoints import Keep
from clbench.settings import Section
from clbench.streams import DISK, STREAMS, Shelf, Storage, Stream, StreamConfig
from clbench.text.names import wrong_name


class Recipe(Section):
    """A run, from data to record."""

    name: str | None = Field(
        None, description="name of the run and its folder; default: stream-methods-seed"
    )
    seed: int = Field(0, ge=0, description="everything random but the class order and the splits")
    data_dir: Path = Field(Path("data"), description="where data sets and caches live")
    plugins: tuple[str, ...] = Field(
        (), description="files or modules with methods, streams … of your own: [my_method.py]"
    )
    plugins_sha256: dict[str, str] = Field(
        default_factory=dict, description="of each plugin that the recipe uses; filled in"
    )
    stream: SerializeAsAny[StreamConfig] = Field(description="what is learned, in which order")
    images: Storage = Field(default_factory=Storage, description="how images are kept")
    augment: Augment = Field(default_factory=Augment, description="random changes in training")
    model: ModelConfig = Field(description="the network and the weights it starts from")
    methods: dict[str, SerializeAsAny[Method]] = Field(
        default_factory=dict, description="what fights forgetting, in order; see `--list`"
    )
    optimizer: Optimizer = Field(default_factory=Optimizer, description="of every task")
    schedule: Schedule = Field(
        default_factory=Schedule, description="of every task, or of the stream"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target that the loss spreads over the classes"
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the moving average of weights that tasks end with"
    )
    early_stopping: EarlyStopping = Field(default_factory=EarlyStopping, description="of tasks")
    epochs: int | None = Field(None, ge=1, description="passes over each task's data")
    steps: int | None = Field(None, ge=1, description="optimiser steps of each task, instead")
    batch_size: int = Field(64, ge=1, description="samples of a global batch, over all devices")
    train_logits: Literal["task", "seen", "all"] = Field(
        "task", description="classes in the training loss: of the sample's task, of all seen, all"
    )
    per_task: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="other settings for a task, by its name: epochs, steps, batch_size, "
        "optimizer, schedule, augment, label_smoothing, ema, early_stopping, model.probe, settings "
        "of the methods, and, where tasks are independent, images.mean and std, and stored and "
        "fit of a data set",
    )
    eval_every: int | None = Field(
        None, ge=1, description="steps between points of the per-task curves; default: none"
    )
    metrics: tuple[str, ...] = Field(
        (), description="what to measure beside accuracy: calibration_error, nll"
    )
    evaluate: Literal["seen", "all"] = Field(
        "seen",
        description="tasks to test after every task: seen so far; all: those to come too, and all "
        "before the first, as forward transfer needs",
    )
    eval_batch_size: int = Field(256, ge=1, description="samples of a batch in evaluation")
    retention: Retention = Field(default_factory=Retention, description="of pretraining")
    representation: Representation = Field(
        default_factory=Representation, description="of earlier tasks, by their features"
    )
    checkpoints: Keep = Field(
        "last",
        description="weights to keep: last: after the last task; all: after every task, for sweeps "
        "over them (equal weights are stored once); none: nothing once the run has finished",
    )
    process_timeout: float = Field(
        1800.0,
        gt=0,
        le=1e7,
        description="seconds that the processes of a run wait for each other in each operation "
        "that they do together; to meet at the start, 300 s at most",
    )
    loggers: attached.LoggerRows
    callbacks: attached.CallbackRows
    trainer: dict[str, Any] = Field(
        default_factory=dict, description="arguments of lightning.Trainer, e.g. {devices: 2}"
    )

    @field_validator("name")
    @classmethod
    def _name_of_a_folder(cls, name: str | None) -> str | None:
        if wrong := name is not None and wrong_name(name):
            raise PydanticCustomError("name", wrong)
        return name

    @field_validator("stream", mode="before")
    @classmethod
    def _stream_by_name(cls, value: Any) -> Any:
        return value if isinstance(value, StreamConfig) else stream_by_name(value, STREAMS)

    @field_validator("methods", mode="before")
    @classmethod
    def _methods_by_name(cls, value: Any) -> Any:
        return methods_by_name(value, METHODS, Method)

    @field_validator("metrics")
    @classmethod
    def _metrics_by_name(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return metrics_by_name(names, METRICS)

    @field_validator("trainer", mode="before")
    @classmethod
    def _arguments_of_the_trainer(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            trainer_arguments.check_arguments(value)
        return value

    @model_validator(mode="after")
    def _together(self) -> Recipe:
        if (self.epochs is None) == (self.steps is None):
            raise PydanticCustomError("length", "give either epochs or steps")
        if self.model.weights == "pretrain" and not self.stream.sets_apart:
            way_out = (
                "name some, or say model.weights: none"
                if self.stream.sets_apart is not None
                else "this stream has none: say model.weights: none, or give other weights"
            )
            raise PydanticCustomError(
                "pretrain",
                "model.weights: pretrain needs stream.pretrain_classes, classes set apart for it; "
                + way_out,
            )
        independent = self.stream.starts_anew
        over_stream = self.schedule.over == "stream"
        refuse_clashes(self.methods, self.optimizer.name, independent)
        refuse_settings(self.methods, self)
        for asked, what, way_out in (
            (self.evaluate == "all", "evaluate: all", "evaluate: seen"),
            (self.representation.measures, "representation", "representation.measures: []"),
        ):
            if asked and independent:
                raise PydanticCustomError(
                    "independent",
                    f"{what} needs one network for all tasks, but with stream.independent each "  # type: ignore[misc]
                    f"task has its own: say {way_out}",
                )
        if over_stream and independent:
            raise PydanticCustomError(
                "schedule",
                "schedule.over: stream needs tasks that follow each other, but with "
                "stream.independent every task starts anew: say over: task",
            )
        stops = self.early_stopping.every is not None
        if stops and (over_stream or not self.stream.validation):
            raise PydanticCustomError(
                "early_stopping",
                "early_stopping.every needs schedule.over: task, as a stream's steps would not be "
                "known, and stream.validation above 0: change these, or leave it out",
            )
        check_settings(self.per_task, list(self.methods), independent, over_stream)
        for task in self.per_task:
            try:
                self.for_task(task)
            except ClbenchError as error:
                raise ClbenchError(f"per_task.{task}: {error}") from error
        return self

    @property
    def title(self) -> str:
        """The name of the run."""
        methods = "+".join(self.methods) or PLAIN
        return self.name or f"{self.stream.name}-{methods}-seed{self.seed}"

    def build_stream(self, shelf: Shelf = DISK) -> Stream:
        """The stream, with the data loaded.

        Args:
            shelf: where it comes from.

        Raises:
            ClbenchError: if data is missing or does not fit.
        """
        own = {task: self.for_task(task).images for task in self.per_task}
        stream = self.stream.build(self.data_dir, self.images, replace(shelf, own=own))
        return self.stream.part(stream)

    def all_methods(self) -> list[Method]:
        """The methods with the settings of every task."""
        recipes = [self, *map(self.for_task, self.per_task)]
        return [method for recipe in recipes for method in recipe.methods.values()]

    def for_task(self, name: str) -> Recipe:
        """The recipe with ``per_task[name]`` put in place.

        Raises:
            ClbenchError: if the fields do not fit.
        """
        changes = self.per_task.get(name)
        if not changes:
            return self
        plain = self.model_dump(mode="json", exclude={"per_task"})
        if "steps" in changes or "epochs" in changes:
            plain |= {"steps": None, "epochs": None}
        return parse(merge(plain, changes))


def parse(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values; plugins that it names must be loaded.

    Args:
        values: as read from YAML.

    Raises:
        ClbenchError: one line naming the key, the value, the reason and the way out.
    """
    return CLASSES.read(values)


#: With the tables that plugins bring rows into.
CLASSES = RecipeClasses(Recipe, STREAMS, METHODS, attached.LOGGERS, MEASURES, METRICS)
