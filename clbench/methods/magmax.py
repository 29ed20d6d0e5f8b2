"""MagMax: of all tasks' changes of a weight, the largest is shown.

[0] Marczak et al., *MagMax: leveraging model merging for seamless continual learning*, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from clbench.methods.base import Needs
from clbench.methods.merge import Merging
from clbench.methods.statements import Swept
from clbench.methods.task_vectors import Scale, Store, magmax

__all__ = ["MagMax", "magmax"]


class MagMax(Merging):
    """Shows θ_* + λ·τ, τ_j the change θ_task − θ_* of largest magnitude over the tasks so far [0].

    Tasks are trained one after the other, each from where the last ended: what is shown is never
    trained further. Of equal magnitudes the later counts. Head and running statistics are as in
    ``task_arithmetic``. λ of other values is a sweep over a finished run::

        methods: {magmax: {scale: 0.5}}
    """

    summary: ClassVar[str] = "fine-tune in sequence, show the largest change of each weight"
    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=2)
    rewinds: ClassVar[bool] = False
    clashes: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("task_arithmetic", "ties", "opcm"), "each merges the changes of all tasks"
    )
    swept: ClassVar[Mapping[str, Swept]] = {"scale": Swept()}

    scale: float = Field(0.5, ge=0, description="λ, factor of the largest changes")

    @property
    def carries(self) -> bool:
        return False

    def new_store(self) -> Store:
        return Store("magmax")

    @property
    def scaling(self) -> Scale:
        return self.scale
