"""What is known of a task's training before its first step, and what methods say of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from clbench.data.transforms import Augment
    from clbench.models.loss import Logits
    from clbench.models.settings import ModelConfig
    from clbench.optim.settings import Optimizer


class Remark(NamedTuple):
    """A reason not to trust what a method does in a task.

    Attributes:
        what: is wrong, in the same words whenever it is.
        detail: the numbers, and the way out.
    """

    what: str
    detail: str


class Training(Protocol):
    """Settings of a recipe that methods may not go with."""

    @property
    def methods(self) -> Mapping[str, Any]: ...
    @property
    def optimizer(self) -> Optimizer: ...
    @property
    def augment(self) -> Augment: ...
    @property
    def model(self) -> ModelConfig: ...
    @property
    def ema(self) -> float: ...
    @property
    def early_stopping(self) -> Any: ...
    @property
    def retention(self) -> Any: ...


@dataclass(frozen=True)
class Plan:
    """What is known of a task's training before its first step.

    Attributes:
        total_steps: optimiser steps, T.
        rate: the learning rate as a factor of its peak, for each step from 0.
        train_logits: classes in the training loss.
        samples: of all its steps, over all devices; infinite where nobody has counted.
    """

    total_steps: int
    rate: Callable[[int], float]
    train_logits: Logits
    samples: float = math.inf

    def left(self, step: int) -> float:
        """The share of the task's learning rate that is still to come after step ``step``, from 1.

        Learning rates are summed over steps: of plain SGD it is the share of the way that is left
        at a constant gradient.
        """
        return 1 - self._sums[step] / self._sums[-1] if self._sums[-1] else 0.0

    @cached_property
    def _sums(self) -> list[float]:
        """Learning rates summed up to each step, from 0 to T."""
        return list(accumulate(map(self.rate, range(self.total_steps)), initial=0.0))
