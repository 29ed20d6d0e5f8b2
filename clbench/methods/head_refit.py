"""Train the head again on the tuned trunk: the second round of FLOW's protocol, for any method.

[0] Sanyal et al., *Upweighting easy samples in fine-tuning mitigates forgetting*; the authors'
    program for vision freezes the trunk that FLOW tuned and goes on with the head alone, with
    the plain loss.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from clbench.methods.base import Context, Method, Needs
from clbench.models.batch_norm import statistics
from clbench.models.reference import plain_network
from clbench.models.settings import Probe
from clbench.models.training import put_rows, rows_of, train_head
from clbench.weights import State


class HeadRefit(Method):
    """After a task: freeze the trunk and train the task's rows of the head with the plain loss [0].

    The loss is among the task's classes, the trunk in evaluation mode; rows of other tasks stay as
    they are. With ``probe.batch_norm: train`` BatchNorm's running statistics move, and are part of
    the result. Its place in the recipe says on which trunk: after ``wise_ft`` that is the average,
    before it the tuned one.
    """

    summary: ClassVar[str] = "after a task, train its head again on the frozen, tuned trunk"
    probes: ClassVar[bool] = True
    makes_head: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(task_boundaries=True)

    start_from: Literal["tuned", "random"] = Field(
        "tuned", description="the head to start from: as the task left it, or a new one"
    )
    probe: Probe | None = Field(
        None, description="epochs, learning rate and so on; default: those of model.probe"
    )

    _activity: dict[str, float] = {"active": 0.0}

    def deploy(self, theta: State, context: Context) -> State:
        classes, names = context.task.classes, context.head
        trunk = plain_network(context.model, theta)
        rules = self.probe or context.probe
        head, losses_N = train_head(
            trunk,
            context.task,
            context.reader,
            rules,
            context.seed,
            1,  # not the numbers of a head that another method probes before the task
            start=rows_of(theta, names, classes) if self.start_from == "tuned" else None,
        )
        refit = theta | {name: theta[name].clone() for name in names}
        if rules.batch_norm == "train":
            after = trunk.state_dict()
            refit |= {name: after[name].to(theta[name].device) for name in statistics(trunk)}
        put_rows(refit, names, classes, head)
        moved = torch.stack([(refit[name] - theta[name]).norm() for name in names]).norm()
        self._activity = {
            "active": float(moved > 0),
            "distance_moved": float(moved),
            "loss": float(losses_N.mean()),
        }
        return refit

    def activity(self) -> dict[str, float]:
        return self._activity
