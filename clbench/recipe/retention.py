"""The recipe's section on retention: which images say what became of pretraining."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from clbench.settings import Section
from clbench.text.textfile import home


class Retention(Section):
    """What the backbone was pretrained for, and how well it still does it, after every task."""

    data: str = Field(
        "auto",
        description="auto: the pretraining classes, or ImageNet images in "
        "<data_dir>/imagenet/val/<wnid>/ if there; none; or a folder of wnid folders",
    )
    batch_norm: Literal["current", "pretrained"] = Field(
        "current",
        description="pretrained: put the original BatchNorm parameters and statistics back",
    )

    transform: Literal["stored", "timm"] = Field(
        "stored",
        description="how ImageNet's images are scaled. stored: as the stream's, at images.size "
        "(JPEG decoded at a reduced scale, bicubic); timm: as timm evaluates the weights, at their "
        "own size, so that published accuracies can be met",
    )

    @field_validator("data")
    @classmethod
    def _folder_at_home(cls, data: str) -> str:
        if not data:
            raise PydanticCustomError("data", "should be auto, none or a folder, and is empty")
        return home(data)
