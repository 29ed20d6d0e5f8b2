"""CoFiMA: after a task, the average with the previous weights, by what matters to either task.

[0] Marouf et al., *Weighted ensemble models are strong continual learners*, section 3.
[1] The authors' program, and PILOT's, which has its lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from clbench.methods.base import Context
from clbench.methods.ewc import cross_entropy
from clbench.methods.fisher import FisherAverage
from clbench.models.differentiated import differentiated
from clbench.models.persample import SampleLoss
from clbench.models.reference import plain_network
from clbench.seeding import generator
from clbench.weights import State


def batch_fisher(
    model: torch.nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: SampleLoss = cross_entropy,
) -> State:
    """The mean over batches of the squared gradient of each batch's mean loss, as in [1].

    It is smaller than the Fisher information (:func:`clbench.methods.ewc.fisher_diagonal`), at a
    minimum by about the batch size. The network is in evaluation mode, and left as it is.

    Args:
        model: inputs (B, …) to logits (B, C).
        batches: inputs and labels int64 (B,), on the model's device.
        loss: logits (B, C) and labels (B,) to losses (B,).

    Returns:
        For each parameter, by the name it has in the plain network: a tensor of its shape.

    Raises:
        ValueError: if there is no batch.
    """
    plain = plain_network(model).eval().requires_grad_(True)
    parameters = dict(plain.named_parameters())
    total, count = {name: torch.zeros_like(p) for name, p in parameters.items()}, 0
    for inputs, labels_B in batches:
        with torch.enable_grad(), differentiated():
            value = loss(plain(inputs), labels_B).mean()
        gradients = torch.autograd.grad(
            value, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        torch._foreach_addcmul_(list(total.values()), gradients, gradients)
        count += 1
    if not count:
        raise ValueError("there are no batches, so there is no Fisher information")
    return {name: x / count for name, x in total.items()}


class CoFiMA(FisherAverage):
    """After a task: θ ← ((1 − α)·F_o·θ_o + α·F_t·θ_t)/((1 − α)·F_o + α·F_t) [0].

    F_o is the Fisher information on the previous task alone, where ``fisher_merge`` has the sum
    over all before. α = 0.4 is that of [1] on CIFAR-100 and ImageNet-R, where it stands on SLCA::

        methods: {slow_trunk: {}, cofima: {alpha: 0.4}, align_head: {}}

    ``gradients: batch`` and ``clip: 0.0001`` are the Fisher of [1]. CoMA, the plain average of [0],
    is ``wise_ft`` with ``anchor: previous`` and ``carry_on: true``.
    """

    summary: ClassVar[str] = "average with the previous weights by the last two tasks' Fishers"
    neutral: ClassVar[Mapping[str, float]] = {"alpha": 1.0}
    scope_means: ClassVar[str] = "how much of the way back to θ_o the average goes: lower alpha"

    clashes: ClassVar[Mapping[str, str]] = {
        **FisherAverage.clashes,
        "fisher_merge": "each averages with the previous task's weights",
    }

    alpha: float = Field(0.4, gt=0, le=1, description="α, share of the trained weights; 1 is off")
    gradients: Literal["sample", "batch"] = Field(
        "sample", description="squared: each sample's gradient, or a batch's mean (authors' code)"
    )
    clip: float | None = Field(
        None, gt=0, description="largest entry of a Fisher; default: any (authors' code: 0.0001)"
    )

    @model_validator(mode="after")
    def _batches_have_their_labels(self) -> CoFiMA:
        if self.gradients == "batch" and self.labels == "model":
            raise ValueError("gradients: batch takes the data's labels; say labels: data")
        return self

    @property
    def shares(self) -> tuple[float, float]:
        return 1 - self.alpha, self.alpha

    def _of_task(self, context: Context) -> State:
        if self.gradients == "sample":
            fisher = super()._of_task(context)
        else:
            fisher = self._of_batches(context)
        return {name: f.clamp(max=self.clip) for name, f in fisher.items()} if self.clip else fisher

    def _of_batches(self, context: Context) -> State:
        random = generator(context.seed, 10)
        split = context.drawn(self.samples, random)
        parts = torch.randperm(len(split), generator=random).split(context.batch_size)
        batches = context.reader.batches(split, context.device, parts)
        fisher = batch_fisher(context.model, (batch[:2] for batch in batches), context.losses)
        for name in context.head:
            fisher[name][~context.seen_C] = 0
        return fisher

    def _add(self, fisher: State) -> None:
        """Only the last task's counts."""
        self._fisher = fisher
