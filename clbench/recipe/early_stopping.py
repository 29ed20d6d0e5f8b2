"""When a task ends before its last step."""

from __future__ import annotations

from pydantic import Field

from clbench.settings import Section


class EarlyStopping(Section):
    """A task ends once the loss on its validation images stays above its least."""

    every: int | None = Field(
        None, ge=1, description="steps between looks at the validation loss; default: none"
    )
    patience: int = Field(5, ge=1, description="looks without a lower loss that end a task")
    least: float = Field(0.0, ge=0, description="by how much a loss must be lower to count as such")
