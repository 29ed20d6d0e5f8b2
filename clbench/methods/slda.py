"""Streaming linear discriminant analysis (SLDA): class means and one covariance, without training.

[0] Hayes & Kanan, *Lifelong machine learning with deep streaming linear discriminant analysis*.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context
from clbench.methods.collected import Collecting, collected, with_rows
from clbench.methods.statements import Swept
from clbench.weights import State


def stream(
    sums_CF: Tensor,
    counts_C: Tensor,
    scatter_FF: Tensor,
    seen: int,
    features_BF: Tensor,
    labels_B: Tensor,
) -> None:
    """Take up samples one after the other, in place: Σ ← (tΣ + t/(t+1)·e·eᵀ)/(t+1) [0].

    t counts the samples before, and e is one's distance from the mean of its class so far; before
    the first of a class, that is 0.

    Args:
        sums_CF: sums of features, by class; float64.
        counts_C: int64, samples by class.
        scatter_FF: t·Σ; float64.
        seen: t, before these samples.
        features_BF: float64.
        labels_B: int64.
    """
    apart_BF = torch.empty_like(features_BF)
    for label in labels_B.unique().tolist():
        own = labels_B == label
        x_NF = features_BF[own]
        before_N = counts_C[label] + torch.arange(len(x_NF), device=x_NF.device)
        sums_NF = sums_CF[label] + x_NF.cumsum(0) - x_NF
        apart_BF[own] = x_NF - sums_NF / before_N.clamp(min=1)[:, None]
        sums_CF[label] += x_NF.sum(0)
        counts_C[label] += len(x_NF)
    t_B = seen + torch.arange(len(labels_B), device=labels_B.device).double()
    scatter_FF += apart_BF.T @ (apart_BF * (t_B / (t_B + 1))[:, None])


def discriminant(means_CF: Tensor, sigma_FF: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """The linear head of Gaussians that share their covariance [0].

    Args:
        means_CF: μ, of every class; float64.
        sigma_FF: Σ.
        shrinkage: ε, in (0, 1]: Λ = ((1 − ε)Σ + εI)⁻¹.

    Returns:
        Weight Λμ (C, F) and bias −½·μᵀΛμ (C,).
    """
    eye = torch.eye(len(sigma_FF), dtype=sigma_FF.dtype, device=sigma_FF.device)
    weight_CF = torch.linalg.solve((1 - shrinkage) * sigma_FF + shrinkage * eye, means_CF.T).T
    return weight_CF, -(weight_CF * means_CF).sum(1) / 2


class SLDA(Collecting):
    """The head is that of classes which are Gaussians with one covariance [0], on all data seen.

    The covariance is the streaming one of [0], in the order of a task's images, from nothing on;
    it is not estimated on the first task and kept, as it can be there.
    """

    summary: ClassVar[str] = "class means and one covariance make the head, without training"
    swept: ClassVar[Mapping[str, Swept]] = {"shrinkage": Swept()}

    shrinkage: float = Field(
        1e-4, gt=0, le=1, description="ε: the covariance is taken as (1 − ε)Σ + εI"
    )

    def absorb(self, theta: State, context: Context) -> None:
        classes, width = theta[context.head[0]].shape
        new = {
            "sums": torch.zeros(classes, width, dtype=torch.float64),
            "counts": torch.zeros(classes, dtype=torch.int64),
            "scatter": torch.zeros(width, width, dtype=torch.float64),
        }
        memory = {name: x.to(context.device) for name, x in (self._memory or new).items()}
        sums, counts, scatter = memory["sums"], memory["counts"], memory["scatter"]
        seen = int(counts.sum())
        for features_BF, labels_B in collected(theta, context):
            stream(sums, counts, scatter, seen, features_BF, labels_B)
            seen += len(labels_B)
        self._memory = {name: x.cpu() for name, x in memory.items()}
        self._activity = {"active": 1.0, "classes": float((counts > 0).sum())}

    def deploy(self, theta: State, context: Context) -> State:
        counts = self._memory["counts"]
        means_CF = self._memory["sums"] / counts.clamp(min=1)[:, None]
        head = discriminant(means_CF, self._memory["scatter"] / counts.sum(), self.shrinkage)
        return with_rows(theta, context, counts > 0, *head)
