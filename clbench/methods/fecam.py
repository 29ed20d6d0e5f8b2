"""FeCAM: the class of least Mahalanobis distance, by a covariance of its own, without training.

[0] Goswami et al., *FeCAM: exploiting the heterogeneity of class distributions in exemplar-free
    continual learning*, and its program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clbench.errors import ClbenchError
from clbench.methods.base import Context
from clbench.methods.collected import Collecting, collected
from clbench.weights import State


def shrunk(covariance_FF: Tensor, alpha1: float, alpha2: float) -> Tensor:
    """Σ + α₁·v₁·I + α₂·v₂·(1 − I), v₁ the mean variance and v₂ the mean covariance [0].

    Covariances of exactly 0, of features that rest, have no part in v₂, as in the program.
    """
    eye = torch.eye(len(covariance_FF), dtype=covariance_FF.dtype, device=covariance_FF.device)
    apart_FF = covariance_FF * (1 - eye)
    mean = apart_FF.sum() / apart_FF.count_nonzero().clamp(min=1)
    variance = covariance_FF.diagonal().mean()
    return covariance_FF + alpha1 * variance * eye + alpha2 * mean * (1 - eye)


def correlation(covariance_FF: Tensor) -> Tensor:
    """A covariance scaled to variances of 1, so that distances of classes can be compared [0]."""
    deviation_F = covariance_FF.diagonal().clamp(min=1e-30).sqrt()
    return covariance_FF / torch.outer(deviation_F, deviation_F)


def mahalanobis(features_BF: Tensor, mean_F: Tensor, inverse_FF: Tensor) -> Tensor:
    """(u − m)ᵀ·Σ⁻¹·(u − m) of each feature, (B,), with u and m scaled to unit length [0]."""
    apart_BF = F.normalize(features_BF, dim=1) - F.normalize(mean_F, dim=0)
    return ((apart_BF @ inverse_FF) * apart_BF).sum(1)


class FeCAM(Collecting):
    """Classifies by the least Mahalanobis distance from a class, after Tukey's power [0].

    Of each class F² numbers are kept, over all tasks that have it. What is made of them stands in
    for the head in evaluation. Defaults are those of the authors' program for ResNets; for ViTs,
    whose features have no power, theirs are ``fecam: {alpha2: 0, shrinkages: 1}``.
    """

    summary: ClassVar[str] = "least Mahalanobis distance, a covariance a class, without training"

    beta: float | None = Field(
        None,
        gt=0,
        le=1,
        description="β of features^β, Tukey's transformation; 1 leaves them; null: 0.5 if none of "
        "the first task's is below 0, else 1",
    )
    alpha1: float = Field(1.0, ge=0, description="α₁, mean variances added to each variance")
    alpha2: float = Field(1.0, ge=0, description="α₂, mean covariances added to each covariance")
    shrinkages: int = Field(2, ge=0, description="how often they are added: the paper has 1")
    mean: Literal["plain", "transformed"] = Field(
        "plain", description="the mean's power (the authors' program), or the mean of powers"
    )

    #: ``beta`` (), ``counts`` (C,), sums of features (C, F), ``plain`` and ``transformed``, and of
    #: each class Σ(x − mean)(x − mean)ᵀ of transformed ones, ``scatter.…`` (F, F), float32.
    _memory: dict[str, Tensor] = {}
    _ready: tuple[Tensor, Tensor] | None = None

    def forget(self) -> None:
        super().forget()
        self._ready = None

    def absorb(self, theta: State, context: Context) -> None:
        found = list(collected(theta, context))
        features_NF, labels_N = (torch.cat(parts) for parts in zip(*found, strict=True))
        if not self._memory:
            shape = theta[context.head[0]].shape
            sums = {name: torch.zeros(shape).double() for name in ("plain", "transformed")}
            self._memory = sums | {"counts": torch.zeros(shape[0], dtype=torch.int64)}
        beta = self._power(float(features_NF.min()))
        for label in labels_N.unique().tolist():
            own_NF = features_NF[labels_N == label]
            self._memory["plain"][label] += own_NF.sum(0).cpu()
            self._add(label, own_NF**beta)
        self._ready = None
        seen = float((self._memory["counts"] > 0).sum())
        self._activity = {"active": 1.0, "classes": seen, "beta": beta}

    def _power(self, least: float) -> float:
        """β, the same in all tasks; ``least`` is the smallest feature of this one."""
        wanted = self.beta or (0.5 if least >= 0 else 1.0)
        beta = float(self._memory.setdefault("beta", torch.tensor(wanted, dtype=torch.float64)))
        if (beta != 1 and least < 0) or self.beta not in (None, beta):
            raise ClbenchError(
                f"methods.fecam.beta = {wanted}: what is below 0, as features of ViTs are, has no "
                f"power, and all tasks have one, here {beta}: say beta: 1 for all of them"
            )
        return beta

    def _add(self, label: int, powers_NF: Tensor) -> None:
        """Merge samples of a class with those of earlier tasks, as if all were of one."""
        memory, count, name = self._memory, len(powers_NF), f"scatter.{label}"
        before, mean_F = int(memory["counts"][label]), powers_NF.mean(0)
        scatter_FF = (powers_NF - mean_F).T @ (powers_NF - mean_F)
        if before:
            gap_F = mean_F - memory["transformed"][label].to(mean_F) / before
            scatter_FF += torch.outer(gap_F, gap_F) * before * count / (before + count)
            scatter_FF += memory[name].to(mean_F)
        memory[name] = scatter_FF.float().cpu()
        memory["counts"][label] += count
        memory["transformed"][label] += powers_NF.sum(0).cpu()

    def _made(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Means (C, F) and inverses (C, F, F); of classes without samples 0 and the identity."""
        counts_C, beta = self._memory["counts"], float(self._memory["beta"])
        means_CF = self._memory[self.mean] / counts_C.clamp(min=1)[:, None]
        means_CF = means_CF**beta if self.mean == "plain" else means_CF
        inverses_CFF = torch.eye(means_CF.shape[1], device=device).repeat(len(counts_C), 1, 1)
        for label in (counts_C > 1).nonzero().flatten().tolist():  # one sample has no covariance
            scatter_FF = self._memory[f"scatter.{label}"].to(device).double()
            covariance_FF = scatter_FF / (int(counts_C[label]) - 1)
            for _ in range(self.shrinkages):
                covariance_FF = shrunk(covariance_FF, self.alpha1, self.alpha2)
            inverses_CFF[label] = torch.linalg.pinv(correlation(covariance_FF), hermitian=True)
        return means_CF.float().to(device), inverses_CFF

    def classifier(self) -> Callable[[Tensor], Tensor] | None:
        return self._classify if self._memory else None

    def _classify(self, features_BF: Tensor) -> Tensor:
        """Minus the distances (B, C), in full precision."""
        with torch.autocast(features_BF.device.type, enabled=False):
            if self._ready is None:
                self._ready = self._made(features_BF.device)
            beta = float(self._memory["beta"])  # other than 1 none was below 0; a new one may be
            powers_BF = features_BF if beta == 1 else features_BF.clamp(min=0) ** beta
            each = zip(*self._ready, strict=True)
            return -torch.stack([mahalanobis(powers_BF, *one) for one in each], 1)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._ready = None
