"""FLOW: samples that the pretrained model finds hard count less.

[0] Sanyal et al., *Upweighting easy samples in fine-tuning mitigates forgetting*, Algorithm 1.
[1] The authors' code for vision, where weights are taken anew on every augmented batch.
[2] The talk on [0], where τ is the median over the whole fine-tuning set, "but one could have it
    be the median of the mini-batch, a running / online median".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from clbench.errors import ClbenchError
from clbench.methods.base import Context, Forward, Method, Needs
from clbench.methods.plan import Remark
from clbench.methods.sample_weights import (
    ROUNDING,
    Moving,
    MovingMedian,
    doubts,
    effective_sample_size,
    exponential,
    median,
    sample_weights,
)
from clbench.models.backbone import features
from clbench.models.folds import FoldHeads, train_fold_heads
from clbench.models.reference import frozen_copy, same_trunk
from clbench.models.settings import Probe
from clbench.models.training import learned_rows, put_rows, train_head
from clbench.record.scopes import is_little
from clbench.seeding import generator

__all__ = ["FLOW", "median", "sample_weights"]

#: Number of the random numbers that deal weights out.
SHUFFLE = 3


class FLOW(Method):
    """Weigh each sample's loss by exp(−f/τ), f its loss under a frozen reference model [0].

    The reference is a trunk (θ_* or θ_o) under a linear-probed head of the task's classes. Where
    the run probes the head itself (``model.head: linear_probe``) and the reference is what the
    task starts from, its losses are used and cost no pass; otherwise FLOW probes a head of its
    own before the task. Samples of other tasks (replayed ones) weigh 1. ``temperature: .inf`` is
    plain fine-tuning.

    A head of as many features as images fits them all, and then its losses are rounding.
    ``losses: out_of_fold`` takes each sample's loss from a head that was trained without it;
    training still starts from the head that the run probed.
    """

    summary: ClassVar[str] = "down-weight samples that the pretrained model finds hard"
    neutral: ClassVar[Mapping[str, float]] = {"temperature": math.inf}
    probes: ClassVar[bool] = True
    scope_means: ClassVar[str] = (
        "1 less the effective sample size, or 0 where weights are noise: lower temperature if all "
        "samples weigh alike, say losses: out_of_fold if τ is rounding"
    )

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=True)] | Literal["median"] | Moving = (
        Field(
            "median",
            description="τ, in units of the loss; median: of the task's training losses; "
            "batch_median: of the mini-batch's; running_median: of all samples seen so far in the "
            "task, each with its latest loss; .inf: all weights are 1",
        )
    )
    losses: Literal["in_sample", "out_of_fold"] = Field(
        "in_sample",
        description="under a head that was trained on all images of the task, or, for each image, "
        "on those of the other folds",
    )
    folds: int = Field(5, ge=2, description="folds of losses: out_of_fold")
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
    shuffled: bool = Field(
        False,
        description="a control: the same weights, dealt to the task's samples at random. What FLOW "
        "does beyond it is due to which samples it down-weights, and not to smaller steps",
    )
    probe: Probe | None = Field(
        None,
        description="training of the reference's head, where the run has not probed it already; "
        "default: that of model.probe",
    )

    @model_validator(mode="after")
    def _shuffles_what_is_fixed(self) -> FLOW:
        fixed = self.per == "sample" and self.temperature not in ("batch_median", "running_median")
        if self.shuffled and not fixed:
            raise ValueError(
                "shuffled deals weights out once, before training: it needs per: sample, and a "
                "temperature that does not move"
            )
        return self

    _context: Context | None = None
    _frozen: nn.Module | None = None
    _heads: FoldHeads | None = None
    _tau: float = math.inf
    _taus: list[float] = []
    _moving: MovingMedian | None = None
    #: By position in the stream's training images: weights, losses under the reference, folds.
    _table: Tensor | None = None
    _losses: Tensor | None = None
    _fold: Tensor | None = None
    _own: Tensor | None = None
    _is_own: Tensor | None = None
    _fitted: float = 0.0
    _remarks: Sequence[Remark] = ()

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Nothing more for weights per sample; a frozen model and its forward pass per batch."""
        if self.per == "batch" and self.temperature != math.inf:
            return Needs(task_boundaries=True, copies=1, passes=1)
        return Needs(task_boundaries=True)

    def start(self, context: Context) -> None:
        self._context, self._frozen, self._heads = context, None, None
        self._table = self._losses = self._fold = self._moving = None
        self._taus, self._remarks = [], ()
        if self.temperature == math.inf:
            return
        losses_N = self._of_task(context)
        given = self.temperature
        self._tau = median(losses_N) if isinstance(given, str) else given
        # Surely classified: the class has more than half of the probability.
        self._fitted = float((losses_N < math.log(2)).float().mean())
        weights_N = exponential(losses_N.float(), self._tau, self.sign)
        if not weights_N.isfinite().all():
            raise ClbenchError(
                f"flow: the weights exp(+f/τ) of task {context.task.name} are not finite for a "
                f"loss of {losses_N.max():.3g} and τ = {self._tau:.3g}: "
                "give a higher temperature, or sign: 1"
            )
        if self.shuffled:
            dealt = generator(context.seed, SHUFFLE)
            weights_N = weights_N[torch.randperm(len(weights_N), generator=dealt)]
        train = context.task.train
        self._own = train.index.to(context.device)
        self._table = torch.ones(len(train.images), device=context.device)
        self._is_own = torch.zeros(len(train.images), dtype=torch.bool, device=context.device)
        self._is_own[self._own] = True
        self._table[self._own] = weights_N.to(context.device)
        inside, fixed = self.losses == "in_sample", not isinstance(given, str)
        self._remarks = list(doubts(weights_N, self._tau, self._fitted, inside, fixed))
        if given == "batch_median" or given == "running_median":
            self._moving = MovingMedian(given, len(train.images), self._tau, context.device)
            self._losses = torch.zeros_like(self._table)
            self._losses[self._own] = losses_N.float().to(context.device)
        if self._heads is not None:
            self._fold = torch.zeros(len(train.images), dtype=torch.int64, device=context.device)
            self._fold[self._own] = self._heads.fold_N.to(context.device)

    def weights(self, forward: Forward) -> Tensor | None:
        if self._table is None:
            return None
        index_B = forward.batch.indices
        if self._frozen is not None or self._moving is not None:
            self._table[index_B] = self._batch_weights(forward)
        return self._table[index_B]

    def finish(self, context: Context) -> None:
        self._context = self._frozen = self._heads = self._moving = None

    def remarks(self) -> Sequence[Remark]:
        return self._remarks

    def activity(self) -> dict[str, float]:
        weights_N = self.histograms().get("weights")
        if weights_N is None:
            return {"active": 0.0}
        effective = effective_sample_size(weights_N)
        tau = sum(self._taus) / len(self._taus) if self._taus else self._tau
        noise = tau < ROUNDING or is_little(effective)
        return {
            "active": float((weights_N != 1).any()),
            "effective_sample_size": effective,
            "mean_weight": float(weights_N.double().sum()) / len(weights_N),
            "temperature": tau,
            "fitted_share": self._fitted,
            "scope": 0.0 if noise else 1 - effective,
        }

    def histograms(self) -> dict[str, Tensor]:
        """What is worth a histogram: the last weight (N,) of each sample of the current task."""
        return {} if self._table is None else {"weights": self._table[self._own]}

    def _of_task(self, context: Context) -> Tensor:
        """Losses (N,) of the task's training images under the reference, which is set up."""
        from_start = self.reference == "previous" or same_trunk(context.anchors, context.head)
        probed = from_start and context.probe_losses is not None  # by the run
        if self.losses == "in_sample":
            return self._in_sample(context, from_start, probed)
        return self._out_of_fold(context, from_start, probed)

    def _trunk(self, context: Context, from_start: bool, probe: Probe) -> nn.Module:
        """The reference's network, a copy unless the run's own may serve before training."""
        if from_start and self.per == "sample" and probe.batch_norm == "eval":
            return context.model
        anchors = context.anchors
        return frozen_copy(
            context.model, (anchors.previous if from_start else anchors.pretrained).state
        )

    def _in_sample(self, context: Context, from_start: bool, probed: bool) -> Tensor:
        """Losses (N,) under one head, trained on all images."""
        if probed:
            assert context.probe_losses is not None
            if self.per == "batch":
                self._frozen = frozen_copy(context.model)
            return context.probe_losses
        task, previous = context.task, context.anchors.previous
        probe = self.probe or context.probe
        reference = self._trunk(context, from_start, probe)
        head, losses_N = train_head(
            reference,
            task,
            context.reader,
            probe,
            context.seed,
            start=learned_rows(previous.state, context.head, task.classes, previous.learned)
            if from_start
            else None,
        )
        if self.per == "batch":
            put_rows(reference.state_dict(), context.head, task.classes, head)
            self._frozen = reference
        return losses_N

    def _out_of_fold(self, context: Context, from_start: bool, probed: bool) -> Tensor:
        """Losses (N,), each under the head that was trained without the image's fold."""
        probe, task, reader = self.probe or context.probe, context.task, context.reader
        if len(task.train) < self.folds:
            raise ClbenchError(
                f"flow.folds = {self.folds}: task {task.name} has {len(task.train)} training "
                "images: give as few folds, or say losses: in_sample"
            )
        reference = self._trunk(context, from_start, probe)
        moved = probed and context.probe.batch_norm == "train"
        if probe.batch_norm == "train" and not moved:
            # Statistics move once, for all folds: as the run's own probe would have moved them.
            train_head(reference, task, reader, probe, context.seed)
        # Neither the numbers of a probe before the task nor those of head_refit after it.
        keys = context.seed, 2
        heads = train_fold_heads(reference, task, reader, probe, self.folds, *keys)
        if self.per == "batch":
            self._frozen, self._heads = reference, heads
        return heads.losses_N

    @torch.no_grad()
    def _batch_weights(self, forward: Forward) -> Tensor:
        """Weights (B,) from the frozen reference's losses on a batch."""
        assert self._is_own is not None
        batch = forward.batch
        own = self._is_own[batch.indices]
        if self._frozen is not None:
            losses_B = self._batch_losses(forward, self._frozen, own)
        else:
            assert self._losses is not None
            losses_B = self._losses[batch.indices]
        tau = self._tau
        if self._moving is not None:
            counts = own if batch.share else torch.zeros_like(own)  # of another process, perhaps
            tau = self._moving.update(batch.indices[counts], losses_B[counts])
            self._taus.append(tau)
        return torch.where(own, exponential(losses_B, tau, self.sign), 1.0)

    def _batch_losses(self, forward: Forward, frozen: nn.Module, own: Tensor) -> Tensor:
        """Losses (B,) on the batch as it is augmented [1]; of other tasks' samples, anything."""
        assert self._context is not None
        classes = self._context.task.classes
        inputs, batch = forward.inputs, forward.batch
        if self._heads is not None:
            assert self._fold is not None
            found_BF = features(frozen, inputs).float()
            logits_BC = self._heads.logits(found_BF, self._fold[batch.indices])
        else:
            logits_BC = frozen(inputs).float()[:, classes.start : classes.stop]
        labels_B = torch.where(own, batch.labels - classes.start, 0)
        return F.cross_entropy(logits_BC, labels_B, reduction="none")
