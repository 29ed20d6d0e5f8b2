"""Numbers that are none, found where they appear: in a step's loss, in weights, in the record."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from clbench.errors import ClbenchError
from clbench.processes.processes import world_size
from clbench.weights import tensors_in

#: What helps against training that diverges.
CALM = "lower optimizer.lr, add schedule.warmup, or set trainer.gradient_clip_val"
#: Batches whose losses are looked at together where looking costs a wait.
TOGETHER = 50


@dataclass(frozen=True)
class Term:
    """What a method brought into a loss.

    Attributes:
        kind: what it is, for people: ``a sample's weight``, ``the penalty``.
        method: its name in a recipe.
        values: factors (B,), or the penalty ().
    """

    kind: str
    method: str
    values: Tensor


@dataclass(frozen=True)
class Loss:
    """The loss of a batch, and what it was made of.

    Attributes:
        step: of this task, from 1.
        value: ().
        losses_B: (B,), of the samples, before any method.
        terms: of the methods.
        changing: names of the methods that change the network, its gradients or its weights.
    """

    step: int
    value: Tensor
    losses_B: Tensor
    terms: Sequence[Term]
    changing: Sequence[str] = ()

    def reason(self) -> str:
        """Why the loss is not finite, in one line; empty if it is."""
        value = float(self.value)
        if math.isfinite(value):
            return ""
        where = f"at step {self.step} of this task"
        names = "+".join(self.changing)
        other = f", or change the settings of methods.{names}" if names else ""
        if _finite(self.losses_B):
            for term in self.terms:
                if not _finite(term.values):
                    worst = term.values[~term.values.isfinite()].flatten()[0].item()
                    return (
                        f"methods.{term.method}: {term.kind} is {worst} {where}, while the loss of "
                        f"the samples is finite: change its settings, or {CALM}"
                    )
        elif self.step == 1:
            return (
                f"the training loss is {value} {where}, before anything was trained: the network's "
                f"output is not finite; look at model.weights and at trainer.precision{other}"
            )
        return f"the training loss is {value} {where}: {CALM}{other}"


class LossWatch:
    """Stops training at the first step whose loss is not finite.

    On a CPU every batch is looked at before the step. A GPU would have to wait at every step, and
    several processes to agree; there, the losses of some batches are looked at together, and the
    message names the step as well.
    """

    def __init__(self) -> None:
        self._losses: list[Loss] = []

    def add(self, loss: Loss) -> None:
        """Take note of a batch's loss.

        Raises:
            ClbenchError: if it, or an earlier one, is not finite; naming the step and the cause.
        """
        self._losses.append(loss)
        at_once = loss.value.device.type == "cpu" and world_size() == 1
        if at_once or len(self._losses) >= TOGETHER:
            self.look()

    def look(self) -> None:
        """Look at what was noted; every process of a run has to call this at the same step.

        Raises:
            ClbenchError: as for :meth:`add`.
        """
        losses, self._losses = self._losses, []
        if not losses:
            return
        values = [loss.value for loss in losses]
        finite = torch.stack(values).isfinite() if len(values) > 1 else None
        if finite is None:
            bad = [] if math.isfinite(values[0]) else losses
        else:
            flags = finite.tolist()
            bad = [loss for loss, good in zip(losses, flags, strict=True) if not good]
        reasons = [bad[0].reason()] if bad else []
        if world_size() > 1:
            reasons = _all(reasons, values[0].device)
        if reasons:
            raise ClbenchError(reasons[0])


def _all(reasons: list[str], device: torch.device) -> list[str]:
    """The reasons of all processes; a cheap sum where, as ever, there are none."""
    count = torch.tensor(len(reasons), device=device)
    dist.all_reduce(count)
    if not int(count):
        return []
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, reasons)
    return [reason for theirs in gathered for reason in theirs]


def flaw(state: Mapping[str, Tensor], parameters: Collection[str]) -> str:
    """The first tensor that holds a value that is no number, in words; empty if there is none.

    Args:
        state: a network's state dict.
        parameters: names that may not be infinite either. Buffers may: masks are.
    """
    for name, tensor in state.items():
        if _finite(tensor) or (name not in parameters and not tensor.isnan().any()):
            continue
        count = int((~tensor.isfinite()).sum())
        return f"{name} holds {count:,} values of {tensor.numel():,} that are not finite"
    return ""


def check_task(
    trained: Mapping[str, Tensor],
    deployed: Iterable[Mapping[str, Tensor]],
    memories: Mapping[str, object],
    deploying: Sequence[str],
    parameters: Collection[str],
    task: str,
) -> None:
    """Refuse weights that are not finite, at a task's end, before anything is made of them.

    Args:
        trained: the weights as they were trained.
        deployed: what was made of them.
        memories: what each method remembers, tensors in nested mappings and sequences.
        deploying: the names of the methods that made them.
        parameters: as for :func:`flaw`.
        task: its name.

    Raises:
        ClbenchError: naming the tensor, and who is to blame.
    """
    found = flaw(trained, parameters)
    if found:
        raise ClbenchError(f"the weights diverged in task {task} ({found}): {CALM}")
    for state in deployed:
        found = "" if state is trained else flaw(state, parameters)
        if found:
            raise ClbenchError(
                f"methods.{'+'.join(deploying)}: what it makes of the weights after task {task} "
                f"is not finite ({found}): change its settings"
            )
    for name, memory in memories.items():
        if any(bool(tensor.isnan().any()) for tensor in tensors_in(memory)):
            raise ClbenchError(
                f"methods.{name}: what it remembers of task {task} holds values that are no "
                f"numbers: change its settings, or {CALM}"
            )


def written(settings: Any) -> Any:
    """Settings as JSON can hold them: an infinite one, such as FLOW's τ, as the word ``inf``."""
    if isinstance(settings, float) and not math.isfinite(settings):
        return str(settings)
    if isinstance(settings, Mapping):
        return {key: written(inner) for key, inner in settings.items()}
    if isinstance(settings, list | tuple):
        return [written(inner) for inner in settings]
    return settings


def _finite(tensor: Tensor) -> bool:
    """Whether all values are finite; one pass, and no copy as ``isfinite`` makes."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    low, high = torch.aminmax(tensor.detach())
    return math.isfinite(low) and math.isfinite(high)
