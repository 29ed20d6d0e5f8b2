"""Top-1 accuracy with the head that the network was pretrained with."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from clbench.metrics.retained.base import Measure


@final
class OriginalHead(Measure):
    """The pretrained head on the trunk as it is now: what use of the network broke."""

    summary: ClassVar[str] = "top-1 accuracy with the original head"

    among: Literal["auto", "all", "covered"] = Field(
        "auto",
        description="rows of the head that compete: all, or covered: those of the classes that the "
        "images are of; auto: covered for heads of more than 1,000 classes, and for ImageNet-A and "
        "-R, as is usual there; else all",
    )
