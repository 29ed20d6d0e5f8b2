"""What methods see of a recipe when it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from clbench.data.transforms import Augment
    from clbench.models.settings import ModelConfig
    from clbench.optim.settings import Optimizer


class Training(Protocol):
    """Settings of a recipe that methods may not go with."""

    @property
    def optimizer(self) -> Optimizer: ...
    @property
    def augment(self) -> Augment: ...
    @property
    def model(self) -> ModelConfig: ...
    @property
    def early_stopping(self) -> Any: ...
    @property
    def retention(self) -> Any: ...
