"""LP-FT: the head is probed on the frozen trunk first, then everything is fine-tuned.

[0] Kumar et al., *Fine-tuning can distort pretrained features and underperform
    out-of-distribution*.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import nn

from clbench.methods.base import Context, Method, Needs
from clbench.models.training import put_rows, rows_of, train_head

if TYPE_CHECKING:
    from clbench.methods.plan import Training


class LPFT(Method):
    """Before each task trains the task's rows of the head on the frozen trunk, then all of it [0].

    While a random head learns, the trunk is pulled to fit it, which distorts features [0]; a head
    that fits already leaves the trunk less to do. The probe goes on from the rows as they are:
    random ones, or where tasks share labels those that were learned. Its loss is
    among the task's classes; its settings are those of ``model.probe``::

        methods: {lp_ft: {epochs: 20}}

    ``model.head: linear_probe`` does the same for any recipe, before θ_o is taken: the rows then
    count as learned, so that averages and penalties hold them.
    """

    summary: ClassVar[str] = "probe the task's head on the frozen trunk, then fine-tune all"
    neutral: ClassVar[Mapping[str, float]] = {"epochs": 0}
    needs: ClassVar[Needs] = Needs(task_boundaries=True)
    probes: ClassVar[bool] = True
    clashes: ClassVar[Mapping[str, str]] = {"linear_probe": "after it there is no fine-tuning"}

    epochs: int | None = Field(
        None, ge=0, description="of the probe; default: model.probe.epochs; 0 is off"
    )

    _activity: dict[str, float] = {"active": 0.0}

    def refuses(self, recipe: Training, sketch: nn.Module | None) -> str:
        if recipe.model.head != "linear_probe":
            return ""
        return "probes the head before a task, and so does model.head = 'linear_probe': choose one"

    @torch.no_grad()
    def start(self, context: Context) -> None:
        rules, task, names = context.probe, context.task, context.head
        if self.epochs is not None:
            rules = rules.model_copy(update={"epochs": self.epochs})
        if not rules.epochs:
            return
        state = context.model.state_dict()
        before = rows_of(state, names, task.classes)
        with torch.enable_grad():
            # Not the numbers of the probes that FLOW and head_refit train.
            head, losses_N = train_head(
                context.model, task, context.reader, rules, context.seed, 3, start=before
            )
        put_rows(state, names, task.classes, head)
        way = [new.cpu() - old for new, old in zip(head.parameters(), before.parameters(),
                                                   strict=True)]  # fmt: skip
        moved = float(torch.stack([x.norm() for x in way]).norm())
        self._activity = {
            "active": float(moved > 0),
            "distance_moved": moved,
            "probe_loss": float(losses_N.mean()),
        }

    def activity(self) -> dict[str, float]:
        return self._activity
