"""Elastic Weight Consolidation (EWC).

[0] Kirkpatrick et al., *Overcoming catastrophic forgetting in neural networks*, eq. 3.
[1] Schwarz et al., *Progress & Compress*, section 3.2: the online form, one decaying Fisher.
[2] Kleiman et al., *Soup to go*, appendix A.3: EWC and Fisher averages as merging.
[3] Kunstner et al., *Limitations of the empirical Fisher approximation*: why labels sampled from
    the model give the Fisher information, and labels from the data something else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context
from clbench.methods.quadratic import Quadratic, free_new_rows
from clbench.models.anchors import named_weights
from clbench.models.persample import CHUNK, PerSample, SampleLoss
from clbench.seeding import generator
from clbench.weights import State


def cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Per-sample cross-entropy (B,) among all classes."""
    return F.cross_entropy(logits_BC, labels_B, reduction="none")


def fisher_diagonal(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: SampleLoss = cross_entropy,
    labels: Literal["data", "model"] = "data",
    random: torch.Generator | None = None,
    chunk: int = CHUNK,
) -> State:
    """The diagonal of the Fisher information: mean over samples of squared gradients.

    Every sample has a gradient of its own; the square of a batch's mean gradient, sometimes used
    in its place, is smaller by about the batch size. The network is computed in eval mode, so
    BatchNorm normalises with its running statistics and dropout is off. The model is left as it
    is: a copy of it is differentiated, without parametrisations (LoRA), so that the result is
    about the effective weights.

    Args:
        model: images (B, 3, H, W) to logits (B, C).
        batches: pairs of inputs float (B, 3, H, W) and labels int64 (B,), on the model's device.
        loss: logits (B, C) and labels (B,) to losses (B,); a negative log-likelihood. Here goes
            a restriction to some of the classes.
        labels: ``data`` takes the labels as given (the *empirical* Fisher, [3]); ``model`` draws
            them from the model's own distribution, one for each sample, for which ``loss`` must be
            a cross-entropy among the classes it admits.
        random: for ``labels="model"``; on the CPU. Default: torch's global generator.
        chunk: samples differentiated at a time; less needs less memory.

    Returns:
        For each parameter (whether or not it requires a gradient), by the name it has in the
        plain network: a float tensor of its shape, at least 0, in squared loss per squared weight.

    Raises:
        ValueError: if ``batches`` holds no sample, or ``chunk`` is below 1.
    """
    draw = None if labels == "data" else lambda p: _draw(p, random)
    return PerSample(model, loss).mean(batches, chunk, draw)


def fisher_merge(
    theta_o: State,
    fisher_o: State,
    theta_t: State,
    fisher_t: State,
    weight_o: float = 0.5,
    weight_t: float = 0.5,
) -> State:
    """Fisher-weighted average of two networks: (λ_o·F_o·θ_o + λ_t·F_t·θ_t)/(λ_o·F_o + λ_t·F_t).

    Equation 15 of [2], entry by entry; where both Fishers are 0 the result is θ_t.

    Args:
        theta_o, theta_t: weights, by name.
        fisher_o, fisher_t: their Fisher diagonals, for all or some of the names; entries of
            ``theta_t`` without one are taken over.
        weight_o, weight_t: λ_o and λ_t, at least 0.

    Raises:
        ValueError: if a weight is negative.
    """
    if weight_o < 0 or weight_t < 0:
        raise ValueError(f"weights must be at least 0, got {weight_o} and {weight_t}")
    merged = dict(theta_t)
    for name in fisher_o.keys() & fisher_t.keys():
        ours, theirs = weight_o * fisher_o[name], weight_t * fisher_t[name]
        share = _divided(ours, ours + theirs)
        merged[name] = torch.lerp(theta_t[name], theta_o[name], share)
    return merged


class EWC(Quadratic):
    """Adds λ/2·Σ_k Σ_j F_k,j·(θ_j − θ_k,j)² to the loss, over the past tasks k [0].

    F_k is computed when task k ends, on its training images without augmentation, so that no old
    data is needed. There is no penalty in the first task: what the pretrained weights matter for
    is not known without the data they were trained on. Rows of the head that no task has learned
    yet are left free.

    The sum of the past tasks' quadratics is itself one quadratic, so ``separate`` keeps three
    numbers a weight less than one would think: its curvature ΣF_k, its centre, and one constant,
    however many tasks there are. ``online`` [1] lets old curvature decay and moves the centre to
    the latest weights.
    """

    summary: ClassVar[str] = "quadratic penalty weighted by the Fisher information of past tasks"

    strength: float = Field(100.0, ge=0, description="λ; 0 is off")
    labels: Literal["data", "model"] = Field(
        "data", description="labels of the Fisher: the data's, or drawn from the model"
    )
    mode: Literal["separate", "online"] = Field(
        "separate", description="a quadratic for each past task, or one that decays"
    )
    decay: float = Field(
        0.9, ge=0, le=1, description="online: what is kept of the old Fisher at each task's end"
    )
    samples: int | None = Field(
        None, ge=1, description="training images the Fisher is computed on; default: all"
    )

    @property
    def _fisher(self) -> State:
        return self._importance

    def start(self, context: Context) -> None:
        super().start(context)
        self._centre = {name: c.to(context.device) for name, c in self._centre.items()}

    def _learn(self, context: Context) -> None:
        fisher = fisher_of_task(context, self.labels, self.samples)
        theta = {name: weight.detach().clone() for name, weight in named_weights(context.model)}
        old = self._importance
        if self.mode == "separate" and old:
            self._constant += add_quadratic(old, self._centre, fisher, theta)
            return
        if old:
            fisher = {name: self.decay * old[name] + f for name, f in fisher.items()}
        self._importance, self._centre = fisher, theta

    def state_dict(self) -> dict[str, object]:
        return {"fisher": self._importance, "centre": self._centre, "constant": self._constant}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._importance, self._centre = dict(state["fisher"]), dict(state["centre"])
        self._constant = float(state["constant"])


def fisher_of_task(
    context: Context, labels: Literal["data", "model"], samples: int | None
) -> State:
    """The Fisher diagonal of a task that ends, 0 for rows of the head that were never learned.

    Args:
        context: of the task; its network holds the trained weights.
        labels: as for :func:`fisher_diagonal`.
        samples: training images it is computed on; None: all.
    """
    random = generator(context.seed)
    split = context.drawn(samples, random)
    fisher = fisher_diagonal(
        context.model,
        (batch[:2] for batch in context.reader.batches(split, context.device)),
        context.losses,
        labels,
        random,
        chunk=min(CHUNK, context.batch_size),  # more than training has room for may not fit
    )
    free_new_rows(fisher, context)
    return fisher


def add_quadratic(fisher: State, centre: State, more: State, theta: State) -> float:
    """Add ΣF'·(x − θ')² to the quadratic ΣF·(x − c)², in place.

    With A = F + F' the sum is ΣA·(x − m)² plus a constant, m = c + F'/A·(θ' − c): exact, and free
    of the cancellation that storing ΣF·θ and ΣF·θ² would bring.

    Args:
        fisher, centre: F and c, by name; changed into A and m.
        more, theta: F' and θ', of the same names and shapes.

    Returns:
        The constant, Σ F·F'/A·(θ' − c)².
    """
    constant = 0.0
    for name, f in fisher.items():
        share = _divided(more[name], f + more[name])
        difference = theta[name] - centre[name]
        constant += float((f * share * difference.square()).sum(dtype=torch.float64))
        # Where neither matters yet, any centre is right; the latest keeps distances small.
        nothing = (f == 0) & (more[name] == 0)
        centre[name].addcmul_(share.masked_fill(nothing, 1.0), difference)
        f.add_(more[name])
    return constant


def _draw(probabilities_BC: Tensor, random: torch.Generator | None) -> Tensor:
    probabilities = probabilities_BC.detach().cpu()
    drawn = torch.multinomial(probabilities, 1, generator=random).flatten()
    return drawn.to(probabilities_BC.device)


def _divided(part: Tensor, whole: Tensor) -> Tensor:
    """part/whole, 0 where the whole is 0."""
    return torch.where(whole > 0, part / whole.clamp_min(torch.finfo(whole.dtype).tiny), 0.0)
