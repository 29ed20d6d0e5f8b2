"""What the lines of ``record.jsonl`` are: a model for each kind.

The first line says the version of all; ``docs/record.md`` tells the fields and the versions, and
``docs/record.schema.json`` is these models. Bounds are there because a report may be given
anybody's record: what is out of range would bring down a table or a figure later, ask for any
amount of memory, or be nonsense in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints
from typing_extensions import NotRequired, Self, TypedDict

from clbench.files.disk import recordable, to_json
from clbench.record.begun import Origin as Origin
from clbench.record.begun import StepTrial as StepTrial
from clbench.record.reading import fit
from clbench.record.values import TASKS as TASKS
from clbench.record.values import Amount as Amount
from clbench.record.values import Count as Count
from clbench.record.values import Fraction as Fraction
from clbench.record.values import Index as Index
from clbench.record.values import MetricName as MetricName
from clbench.record.values import Number as Number
from clbench.record.values import Operations as Operations
from clbench.record.values import Pair as Pair
from clbench.record.values import Part as Part
from clbench.record.values import Scenario as Scenario
from clbench.record.values import Text as Text

#: Of the records that are written. 0 are those of before records had versions.
VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Line(_Part):
    """A line of a record. Fields that it does not know are kept, and nothing is made of them."""

    model_config = ConfigDict(extra="allow")
    event: Text
    _text: str = PrivateAttr("")

    @classmethod
    def read(cls, values: Any, text: str, where: str) -> Self:
        """The event of a line.

        Args:
            values: of the line.
            text: the line itself.
            where: the line's place, for people.

        Raises:
            ClbenchError: if it is not what a run writes, with the field, the value and the reason.
        """
        event = fit(cls, values, where)
        event._text = text
        return event

    @classmethod
    def made(cls, **values: Any) -> Self:
        """An event to write; a number that is none is recorded as null.

        Raises:
            ClbenchError: if it is not what a record holds.
        """
        event = fit(cls, recordable(values), f"the event {cls.model_fields['event'].default}")
        assert not event.model_extra, f"the model has no {sorted(event.model_extra)}"
        return event

    @property
    def text(self) -> str:
        """The line, with its end: as it was read, or as it is to be written."""
        if not self._text:
            given = {"event": self.event} | self.model_dump(exclude_unset=True)
            self._text = to_json(given) + "\n"
        return self._text

    @property
    def unknown(self) -> list[str]:
        """What is there that no run writes."""
        return list(self.model_extra or ())


class RunEvent(_Line):
    """What is learned: the first line."""

    event: Literal["run"] = "run"
    version: Annotated[int, Field(ge=0, le=VERSION)] = Field(description="of the whole record")
    title: Text
    stream: Text
    stream_version: Annotated[int, Field(ge=1, le=10**6)] = Field(
        1, description="of the stream's definition"
    )
    methods: dict[Text, Any] = Field(description="their settings, by name, in order")
    traits: dict[Text, list[Text]] = Field({}, description="what the methods say of themselves")
    seed: Annotated[int, Field(gt=-(2**63), lt=2**63)]
    backbone: Text
    options: dict[Text, Any] = Field(description="of the backbone")
    size: Count | None = Field(description="side of the images that are stored, in pixels")
    weights: Origin
    split_manifest_sha256: Text | None
    retention_images_sha256: Text | None
    retention_labels_sha256: Text | None = Field(
        None, description="of these images; records before there was this field have none"
    )
    tasks: Annotated[list[Text], Field(min_length=1, max_length=TASKS)]
    test_images: list[Annotated[int, Field(ge=1, le=10**15)]] | None = Field(
        None, description="of each task; records before there was this field have none"
    )
    classes: Annotated[list[Pair], Field(min_length=1, max_length=TASKS)] | None = Field(
        None, description="global labels of each task, the first and one past the last; as above"
    )
    stages: Count | None = Field(
        None, description="tasks of the whole stream, with what first_tasks leaves out; as above"
    )
    class_names: list[Text]
    independent: bool = Field(description="whether every task starts from the pretrained weights")
    shared_labels: bool
    test_on: Text | None = Field(description="test, or validation: a try of tuning")
    train_logits: Text | None
    warnings: list[Text]
    step_trial: StepTrial | None = Field(None, description="where model.compile is auto")
    parameters: Count
    recipe: str | None = Field(description="as YAML")
    laid_on: Text | None = Field(
        None, description="title of the finished run whose weights these are; it alone trained"
    )


class RetentionScores(_Part):
    """Accuracy on what the network was pretrained for."""

    top1: Fraction
    top5: Fraction
    metrics: dict[MetricName, Number | None] = Field({}, description="others, as of the tasks")


#: Names of measures, of sets of the user's as ``set/measure``.
Retained = Annotated[
    dict[Annotated[str, StringConstraints(max_length=300)], Fraction], Field(max_length=100)
]
#: Accuracies on tasks in a row, by names of measures.
Probed = Annotated[dict[MetricName, list[Fraction]], Field(max_length=100)]


class Measured(_Part):
    """Accuracies, and other metrics, on tasks in a row."""

    first: Index = Field(description="the first of the tasks; those after it follow in order")
    task_incremental: list[Fraction] = Field(description="of each of the tasks")
    class_incremental: list[Fraction] = Field(description="of each of the tasks")
    metrics: dict[MetricName, dict[Scenario, list[Number | None]]] = Field(
        {}, description="others that the recipe names; of each of the tasks, null if no number"
    )

    @property
    def evaluated(self) -> range:
        """The tasks' indices."""
        return range(self.first, self.first + len(self.task_incremental))

    def of(self, scenario: Scenario) -> list[float]:
        """The accuracies of a scenario, a task each."""
        accuracies: list[float] = getattr(self, scenario)
        return accuracies


class PretrainedEvent(_Line):
    """The network before the first task: the second line."""

    event: Literal["pretrained"] = "pretrained"
    retention: RetentionScores | None
    retained: Retained = Field({}, description="what other measures, and other images, say is kept")
    ahead: Measured | None = Field(None, description="of all tasks, where they were to be tested")


class CurvePoint(Measured):
    """A point of the curves, before the task is through."""

    step: Count


class Footprint(_Part):
    """What a method needed."""

    past_data: bool
    task_boundaries: bool
    reference_data: bool = False
    stored_samples: Amount
    stored_bytes: Amount
    weight_copies: Amount
    extra_passes_per_step: Amount
    time_share: Amount


class Activity(TypedDict):
    """What a method did in a task; whatever else it tells of itself stands beside these."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    active: NotRequired[Number]
    scope: NotRequired[Number | None]


class Took(_Part):
    """What a part of a task took: seconds, and images that went through the network."""

    seconds: Amount
    trained: Count = Field(description="images, with gradients")
    passed: Count = Field(description="images, without")


class RemarkMade(_Part):
    """What a method remarked on a task."""

    method: Annotated[str, StringConstraints(max_length=100)]
    what: Annotated[str, StringConstraints(max_length=200)]
    detail: Text


class Modes(_Part):
    """How the network was trained."""

    trained_parameters: Count
    frozen_parameters: Count
    batch_norms_in_training_mode: Count
    batch_norms_in_evaluation_mode: Count


class TaskEvent(Measured, _Line):
    """A task that was learned: measured on it and on those before it, or on it alone."""

    event: Literal["task"] = "task"
    task: Index
    name: Text
    last_step: Count = Field(description="optimiser steps since the stream began")
    validation: Measured | None
    retention: RetentionScores | None
    retained: Retained = Field({}, description="the same measures as before the first task")
    ahead: Measured | None = Field(
        None, description="of the tasks to come, where they were to be tested and there are any"
    )
    representation: Probed = Field(
        {}, description="of each of the tasks, by classifiers that are made anew of the features"
    )
    curve: list[CurvePoint]
    methods: dict[Text, Activity]
    remarks: Annotated[list[RemarkMade], Field(max_length=100)]
    distance: dict[Text, Number | None] = Field(description="of the weights, from each anchor")
    distance_over: Text = Field(description="the trunk, or all parameters, head included")
    modes: Modes | None
    loss: Number | None = Field(description="of the whole batch, at the task's last step")
    processes: Count | None
    steps: Count
    samples: Count
    seconds: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
    parts: dict[Part, Took]
    peak_memory_bytes: Count
    flops: Operations | None = Field(
        None, description="of training, in all processes; null: unknown"
    )
    footprint: dict[Text, Footprint]

    def course(self) -> Iterator[tuple[int, Measured]]:
        """Steps, and what was measured after them."""
        yield from ((point.step, point) for point in self.curve)
        yield self.last_step, self


class EndEvent(_Line):
    """The stream is through, and what a run leaves is there: the last line."""

    event: Literal["end"] = "end"
    lacking: list[Text] = Field([], description="pictures that could not be drawn, if any")


class OtherEvent(_Line):
    """Of a kind that no run writes: kept, and nothing is made of it."""

    @property
    def unknown(self) -> list[str]:
        """Its kind."""
        return [f"events {self.event}"]


Event = RunEvent | PretrainedEvent | TaskEvent | EndEvent | OtherEvent
KINDS: dict[str, type[Event]] = {
    "run": RunEvent,
    "pretrained": PretrainedEvent,
    "task": TaskEvent,
    "end": EndEvent,
}
