"""FLOW: samples that the pretrained model finds hard count less.

[0] Sanyal et al., *Upweighting easy samples in fine-tuning mitigates forgetting*, Algorithm 1.
[1] The authors' code for vision, where weights are taken anew on every augmented batch.
"""

from __future__ import annotations

import copy
import math
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from clbench.anchors import Anchors
from clbench.data.batches import Batch
from clbench.errors import ClbenchError
from clbench.method import Context, Method, Needs
from clbench.models.backbone import Probe
from clbench.models.training import put_rows, train_head
from clbench.weights import State


def sample_weights(
    losses: Tensor, temperature: float | Literal["median"] | None = None, sign: int = 1
) -> Tensor:
    """FLOW's weight exp(−f/τ) of every sample [0, Algorithm 1, step 1]; not normalised.

    Args:
        losses: (N,) losses f ≥ 0 of the samples under the frozen reference model.
        temperature: τ > 0, in units of the loss; ``inf`` gives weights of one. None or "median"
            is the median of ``losses``. Where that is zero, the limit τ → 0 is taken: samples
            without loss weigh 1, the others 0.
        sign: 1, or −1 for exp(+f/τ), the weights of distributionally robust optimisation.

    Returns:
        (N,) weights of the losses' type: in [0, 1], or with ``sign=-1`` at least 1 and unbounded.

    Raises:
        ValueError: if there are no losses, or the temperature or the sign is out of range.

    >>> sample_weights(torch.tensor([0.0, 1.0, 2.0]))
    tensor([1.0000, 0.3679, 0.1353])
    """
    if sign not in (1, -1):
        raise ValueError(f"sign must be 1 (FLOW) or -1 (DRO), got {sign}")
    if temperature is None or temperature == "median":
        temperature = median(losses)
    elif not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return _exponential(losses, temperature, sign)


def _exponential(losses: Tensor, temperature: float, sign: int) -> Tensor:
    # At the limit τ → 0, samples without loss would be 0/0.
    return torch.exp(-sign * torch.where(losses == 0, 0.0, losses / temperature))


def median(losses: Tensor) -> float:
    """The median of (N,) losses; of an even number, the mean of the middle two.

    Raises:
        ValueError: if there are none.
    """
    if not losses.numel():
        raise ValueError("the median of no losses is not defined: give a temperature")
    # Cross-entropy can be -0.0, and exp(-f/τ) with τ = -0.0 would be infinite.
    ordered = losses.flatten().abs().sort().values
    return (float(ordered[(len(ordered) - 1) // 2]) + float(ordered[len(ordered) // 2])) / 2


class FLOW(Method):
    """Weigh each sample's loss by exp(−f/τ), f its loss under a frozen reference model [0].

    The reference is a trunk (θ_* or θ_o) under a linear-probed head of the task's classes. Where
    the run probes the head itself (``model.head: linear_probe``) and the reference is what the
    task starts from, its losses are used and cost no pass; otherwise FLOW probes a head of its
    own before the task. Samples of other tasks (replayed ones) weigh 1. ``temperature: .inf`` is
    plain fine-tuning.
    """

    summary: ClassVar[str] = "down-weight samples that the pretrained model finds hard"

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=True)] | Literal["median"] = Field(
        "median",
        description="τ, in units of the loss; median: of the task's training losses; "
        ".inf: all weights are 1",
    )
    per: Literal["sample", "batch"] = Field(
        "sample",
        description="weights once per sample, before training (the paper's Algorithm 1), or on "
        "every augmented batch (the authors' code; one more forward pass per step)",
    )
    reference: Literal["pretrained", "previous"] = Field(
        "pretrained", description="trunk of the frozen reference model: θ_* or θ_o"
    )
    sign: Literal[1, -1] = Field(
        1, description="-1: exp(+f/τ), DRO, the opposite: forgets more; needs a higher temperature"
    )
    probe: Probe = Field(
        default_factory=Probe,
        description="training of the reference's head, where the run has not probed it already",
    )

    _context: Context | None = None
    _frozen: nn.Module | None = None
    _tau: float = math.inf
    _table: Tensor | None = None
    _own: Tensor | None = None

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Nothing more for weights per sample; a frozen model and its forward pass per batch."""
        if self.per == "batch" and self.temperature != math.inf:
            return Needs(task_boundaries=True, copies=1, passes=1)
        return Needs(task_boundaries=True)

    def start(self, context: Context) -> None:
        self._context, self._frozen, self._table = context, None, None
        if self.temperature == math.inf:
            return
        losses_N = self._losses(context)
        self._tau = median(losses_N) if self.temperature == "median" else self.temperature
        weights_N = _exponential(losses_N.float(), self._tau, self.sign)
        if not weights_N.isfinite().all():
            raise ClbenchError(
                f"flow: the weights exp(+f/τ) of task {context.task.name} are not finite for a "
                f"loss of {losses_N.max():.3g} and τ = {self._tau:.3g}: "
                "give a higher temperature, or sign: 1"
            )
        train = context.task.train
        self._own = train.index.to(context.device)
        self._table = torch.ones(len(train.images), device=context.device)
        self._table[self._own] = weights_N.to(context.device)

    def weights(self, batch: Batch, losses_B: Tensor) -> Tensor | None:
        if self._table is None:
            return None
        if self._frozen is not None:
            self._table[batch.indices] = self._batch_weights(batch)
        return self._table[batch.indices]

    def finish(self, context: Context) -> None:
        self._context = self._frozen = None

    def activity(self) -> dict[str, float]:
        weights_N = self.histograms().get("weights")
        if weights_N is None:
            return {"active": 0.0}
        total, squares = weights_N.double().sum(), weights_N.double().square().sum()
        effective = total.square() / squares / len(weights_N) if squares > 0 else squares
        return {
            "active": float((weights_N != 1).any()),
            "effective_sample_size": float(effective),
            "mean_weight": float(total) / len(weights_N),
            "temperature": self._tau,
        }

    def histograms(self) -> dict[str, Tensor]:
        """What is worth a histogram: the last weight (N,) of each sample of the current task."""
        return {} if self._table is None else {"weights": self._table[self._own]}

    def _losses(self, context: Context) -> Tensor:
        """Losses (N,) of the task's training images under the reference, which is set up."""
        task, anchors = context.task, context.anchors
        from_start = self.reference == "previous" or same_trunk(anchors, context.head)
        if from_start and context.probe_losses is not None:
            if self.per == "batch":
                self._frozen = frozen_copy(context.model)
            return context.probe_losses
        reference = context.model
        if self.per == "batch" or not from_start or self.probe.batch_norm == "train":
            state = anchors.previous.state if from_start else anchors.pretrained.state
            reference = frozen_copy(context.model, state)
        head, losses_N = train_head(reference, task, context.transform, self.probe, context.seed)
        if self.per == "batch":
            put_rows(reference.state_dict(), context.head, task.classes, head)
            self._frozen = reference
        return losses_N

    @torch.no_grad()
    def _batch_weights(self, batch: Batch) -> Tensor:
        """Weights (B,) from the frozen reference's losses on the batch as it is augmented [1]."""
        assert self._context is not None
        assert self._frozen is not None
        classes = self._context.task.classes
        own = (batch.labels >= classes.start) & (batch.labels < classes.stop)
        inputs = self._context.transform.train(batch.images, batch.draws)
        logits_BC = self._frozen(inputs).float()[:, classes.start : classes.stop]
        labels_B = torch.where(own, batch.labels - classes.start, 0)
        losses_B = F.cross_entropy(logits_BC, labels_B, reduction="none")
        return torch.where(own, _exponential(losses_B, self._tau, self.sign), 1.0)


def same_trunk(anchors: Anchors, head: tuple[str, ...]) -> bool:
    """Whether θ_o is θ_* but for the head: in the first task, and where tasks are rewound.

    Running statistics are left out: a probe can move them before the task.
    """
    pretrained, previous = anchors.pretrained.state, anchors.previous.state
    moved = ("running_mean", "running_var", "num_batches_tracked")
    return all(
        torch.equal(x, previous[name])
        for name, x in pretrained.items()
        if name not in head and not name.endswith(moved)
    )


def frozen_copy(model: nn.Module, state: State | None = None) -> nn.Module:
    """A copy in evaluation mode, without gradients, that computes with the weights ``state``.

    Args:
        model: a network at the start of a task, when parametrizations (LoRA) change nothing yet.
        state: weights under the plain network's names; None for the model's own.
    """
    frozen = copy.deepcopy(model).requires_grad_(False).eval()
    own = frozen.state_dict()
    for name, tensor in (state or {}).items():
        module, _, leaf = name.rpartition(".")
        original = f"{module}.parametrizations.{leaf}.original"
        own[original if original in own else name].copy_(tensor)
    return frozen
