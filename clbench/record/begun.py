"""What the first line of a record says of how a run begins, besides its recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from clbench.record.values import Amount, Text

_CONFIG = ConfigDict(strict=True, frozen=True, extra="ignore")


class Origin(BaseModel):
    """Weights that a run starts from; null in old records that do not tell."""

    model_config = _CONFIG
    source: Text | None = Field(description="none, pretrain, a tag of timm, or a file")
    sha256: Text | None


class StepTrial(BaseModel):
    """What ``model.compile: auto`` chose before the first task; the whole run keeps to it."""

    model_config = _CONFIG
    compile: Text | None = Field(description="backend of torch.compile; null: none")
    channels_last: bool | None = Field(description="as model.channels_last; null: as that says")
    why: Text = Field(description="in words")
    step_seconds: Annotated[dict[Text, Amount], Field(max_length=10)] = Field(
        {}, description="of the ways that were tried"
    )
    compile_seconds: Amount = Field(0.0, description="that compiling took")
    seconds: Amount = Field(0.0, description="that the trial took")
