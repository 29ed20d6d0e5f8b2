"""Fair tuning: every method gets the same number of tries on the first tasks' validation data.

A try is a run of the first ``tasks`` tasks of the stream with the validation data in the place of
the test data, and without the retention test, so that no test data is read. Optuna proposes the
settings: lists are tried without repetition (its GridSampler), ranges by its TPESampler. Tries of
one method follow each other, and those of several methods run side by side, so that the proposals
depend neither on the number of jobs nor on which run ends first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from clbench.errors import ClbenchError, shown
from clbench.explain import nearest, read_section
from clbench.recipe.yamlfile import nested
from clbench.record.record import Record, Scenario
from clbench.settings import Section

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import Trial

#: A value of a recipe that is searched for.
Value = int | float | str | bool | None


class Range(Section):
    """Numbers from ``low`` to ``high``; whole ones if both are whole."""

    low: int | float = Field(description="smallest value")
    high: int | float = Field(description="largest value")
    log: bool = Field(False, description="search the logarithm")

    @model_validator(mode="after")
    def _sensible(self) -> Range:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise PydanticCustomError(
                "range", f"{self.low} … {self.high} is no range" + " for a logarithm" * self.log
            )
        return self


Space = dict[str, Annotated[list[Value], Field(min_length=1)] | Range]


class Tuning(Section):
    """The ``tune`` section of a suite."""

    tries: int = Field(ge=1, description="of every method")
    tasks: int = Field(2, ge=1, description="how many of the first tasks a try learns")
    seed: int = Field(0, ge=0, description="of the tries and of Optuna's draws")
    scenario: Scenario = Field(
        "task_incremental", description="whose mean validation accuracy is maximised"
    )
    space: Space = Field(
        default_factory=dict,
        description="what every method searches: dotted recipe fields, each with a list of values "
        "or {low: …, high: …, log: true}",
    )
    methods: dict[str, Space] = Field(
        default_factory=dict, description="by method: fields of its own, or in the place of those"
    )

    def space_of(self, method: str) -> Space:
        """What a method searches."""
        return self.space | self.methods.get(method, {})


#: Keys that say which run it is, or where things lie.
FIXED = ("seed", "name", "data_dir")


def read_tuning(values: Any, methods: Sequence[str]) -> Tuning:
    """The ``tune`` section of a suite with these methods.

    Raises:
        ClbenchError: naming the key, the value and the way out.
    """
    tuning = read_section(Tuning, values, "tune")
    for method in tuning.methods:
        if method not in methods:
            raise ClbenchError(
                f"tune.methods.{method}: the suite has no such method{nearest(method, methods)}"
            )
    for method in methods:
        space = tuning.space_of(method)
        if not space:
            raise ClbenchError(
                f"tune: nothing to search for {method}: give tune.space or tune.methods.{method}"
            )
        for key, choices in space.items():
            if key.partition(".")[0] in FIXED:
                raise ClbenchError(f"tune: {key} is no setting to be chosen: leave it out")
            if isinstance(choices, list) and len({repr(choice) for choice in choices}) < len(
                choices
            ):
                raise ClbenchError(f"tune: {key} = {shown(choices)} names a value twice")
        lists = [choices for choices in space.values() if isinstance(choices, list)]
        count = math.prod(map(len, lists))
        if len(lists) == len(space) and count < tuning.tries:
            raise ClbenchError(
                f"tune.tries = {tuning.tries}, but the lists of {method} make {count} settings: "
                "every method must have as many tries, so add values or lower tries"
            )
    return tuning


@dataclass
class Try:
    """One setting that was tried.

    Attributes:
        number: from 0.
        settings: values by dotted recipe field.
        value: mean validation accuracy over the tasks after the last of them; None if it failed.
        reason: why it failed.
        folder: its run folder, below the suite's.
    """

    number: int
    settings: dict[str, Value]
    value: float | None = None
    reason: str = ""
    folder: str = ""


@dataclass
class Search:
    """The tries of one cell of a suite.

    Attributes:
        name: of the cell.
        method: the suite's name for the method.
        space: what is searched.
        tries: so far, in order.
    """

    name: str
    method: str
    space: Space
    seed: int
    tries: list[Try] = field(default_factory=list)
    _study: Study | None = field(default=None, repr=False)
    _trial: Trial | None = field(default=None, repr=False)

    def ask(self) -> Try:
        """The next setting to try.

        Raises:
            ClbenchError: if Optuna is not installed.
        """
        if self._study is None:
            self._study = _study(self.space, self.seed)
        self._trial = self._study.ask({k: _distribution(v) for k, v in self.space.items()})
        made = Try(len(self.tries), dict(self._trial.params))
        self.tries.append(made)
        return made

    def tell(self, value: float | None, reason: str = "") -> None:
        """What came of the last setting: its value, or why there is none."""
        from optuna.trial import TrialState

        assert self._study is not None
        assert self._trial is not None
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        self._study.tell(self._trial, value, state=state)
        self.tries[-1].value, self.tries[-1].reason = value, reason

    @property
    def chosen(self) -> int | None:
        """The number of the best try, the first of equals; None if all failed."""
        done = [made for made in self.tries if made.value is not None]
        return max(done, key=lambda made: (made.value, -made.number)).number if done else None

    @property
    def settings(self) -> dict[str, Any]:
        """The chosen setting as values of a recipe; empty if all tries failed."""
        return {} if self.chosen is None else nested(self.tries[self.chosen].settings)

    @property
    def failure(self) -> str:
        """Why there is nothing to choose from."""
        return f"all {len(self.tries)} tries failed, the last: {self.tries[-1].reason}"


def try_of(tuning: Tuning, settings: Mapping[str, Value]) -> dict[str, Any]:
    """What makes a run a try: values of a recipe to put on top."""
    return nested(settings) | {
        "stream": {"first_tasks": tuning.tasks, "test_on": "validation"}
        | nested(settings).get("stream", {}),
        "retention": {"data": "none", "sets": {}},
        "eval_every": None,
        "evaluate": "seen",
        "representation": {"measures": {}},
    }


def score_of(record: Record, scenario: Scenario) -> float:
    """What a try is worth: its overall performance, which is measured on validation data."""
    assert record.run.test_on == "validation"
    return float(record.summary()[scenario]["overall_performance"])


def as_values(tuning: Tuning, searches: Sequence[Search]) -> dict[str, Any]:
    """All tries and choices, for ``tuning.json``."""
    return {
        "tries": tuning.tries,
        "tasks": tuning.tasks,
        "seed": tuning.seed,
        "scenario": tuning.scenario,
        "cells": [
            {
                "name": search.name,
                "method": search.method,
                "space": {k: _plain(v) for k, v in search.space.items()},
                "tries": [
                    asdict(made) | {"state": "failed" if made.value is None else "finished"}
                    for made in search.tries
                ],
                "chosen": search.chosen,
            }
            for search in searches
        ],
    }


def given(values: Mapping[str, Any], key: str) -> bool:
    """Whether values of a recipe have one by a dotted key, or none of a section that it is in."""
    at: Any = values
    for part in key.split("."):
        if not isinstance(at, Mapping) or part not in at:
            return at is not None and not isinstance(at, Mapping)
        at = at[part]
    return True


def first(tune: Tuning, method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a method searches that values of a recipe do not give: the first of each, as values."""
    space = tune.space_of(method)
    return nested({k: v for k, v in next(corners(space)).items() if not given(values, k)})


def corners(space: Space) -> Iterator[dict[str, Value]]:
    """The smallest and the largest settings of a space, to check it before anything is run."""
    for last in (False, True):
        yield {
            k: v[-last] if isinstance(v, list) else (v.high if last else v.low)
            for k, v in space.items()
        }


def _study(space: Space, seed: int) -> Study:
    try:
        import optuna
    except ImportError as error:
        raise ClbenchError("tune needs Optuna: pip install 'clbench[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    class Grid(optuna.samplers.GridSampler):
        # Its parent stops the study once all is tried, an error where trials are asked for.
        def after_trial(self, *_: object) -> None:
            pass

    sampler: optuna.samplers.BaseSampler
    if all(isinstance(choices, list) for choices in space.values()):
        sampler = Grid(space, seed=seed)  # type: ignore[arg-type]
    else:
        sampler = optuna.samplers.TPESampler(seed=seed)
    return optuna.create_study(direction="maximize", sampler=sampler)


def _distribution(choices: list[Value] | Range) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(choices, list):
        return CategoricalDistribution(choices)
    if isinstance(choices.low, int) and isinstance(choices.high, int):
        return IntDistribution(choices.low, choices.high, log=choices.log)
    return FloatDistribution(choices.low, choices.high, log=choices.log)


def _plain(choices: list[Value] | Range) -> Any:
    return choices.model_dump() if isinstance(choices, BaseModel) else choices
