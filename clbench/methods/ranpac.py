"""RanPAC: a ridge classifier on random features of the trunk's, without training.

[0] McDonnell et al., *RanPAC: random projections and pre-trained models for continual learning*,
    Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from clbench.methods.base import Context
from clbench.methods.collected import Collecting, collected
from clbench.seeding import generator
from clbench.weights import State

#: λ that are tried: 10⁻⁸ … 10⁸ [0].
CANDIDATES = tuple(10.0**power for power in range(-8, 9))
#: Share of a task's samples that λ is fitted on; the others judge it [0].
FITTED = 0.8
#: Of the products of features, so many rows at a time are in float64.
ROWS = 1000


def ridge(gram_MM: Tensor, targets_MC: Tensor, strength: float) -> Tensor:
    """The weights (C, M) of least Σ‖W·h − y‖² + λ‖W‖²: ((HᵀH + λI)⁻¹HᵀY)ᵀ.

    Args:
        gram_MM: HᵀH.
        targets_MC: HᵀY.
        strength: λ, above 0.

    Returns:
        The weights; float64, as they are worked out.
    """
    shifted_MM, targets_MC = _shifted(gram_MM, strength), targets_MC.double()
    # By Cholesky, in place: M² numbers are most of the memory. The transpose of a symmetric matrix
    # is the matrix itself, in the order that LAPACK takes without a copy.
    factor_MM, failed = shifted_MM.mT, torch.empty((), dtype=torch.int32, device=gram_MM.device)
    torch.linalg.cholesky_ex(factor_MM, out=(factor_MM, failed))
    if failed:  # H's rounding may leave HᵀH indefinite by more than a small λ
        return torch.linalg.solve(_shifted(gram_MM, strength), targets_MC).T
    half_MC = torch.linalg.solve_triangular(factor_MM, targets_MC, upper=False)
    return torch.linalg.solve_triangular(factor_MM.mT, half_MC, upper=True).T


def _shifted(gram_MM: Tensor, strength: float) -> Tensor:
    """HᵀH + λI, float64."""
    shifted_MM = gram_MM.to(torch.float64, copy=True)
    shifted_MM.diagonal().add_(strength)
    return shifted_MM


def choose_ridge(random_NM: Tensor, targets_NC: Tensor) -> tuple[float, list[float]]:
    """λ by the squared error on the last fifth of a task's samples, of a fit on those before.

    Args:
        random_NM: random features of a task's samples; float64.
        targets_NC: one-hot labels among all classes.

    Returns:
        The first of :data:`CANDIDATES` with the least mean squared error, and these errors.
    """
    count = int(len(random_NM) * FITTED)
    fitted, judged = random_NM[:count], random_NM[count:]
    # One decomposition serves all λ, and small ones as well: of K×K products, K the lesser of
    # samples and features, as (HᵀH + λI)⁻¹Hᵀ = Hᵀ(HHᵀ + λI)⁻¹.
    few = count < fitted.shape[1]
    values_K, vectors_KK = torch.linalg.eigh(fitted @ fitted.T if few else fitted.T @ fitted)
    targets = targets_NC[:count] if few else fitted.T @ targets_NC[:count]
    turned_KC = vectors_KK.T @ targets
    judged = (judged @ fitted.T if few else judged) @ vectors_KK
    shrunk = [turned_KC / (values_K.clamp(min=0) + s)[:, None] for s in CANDIDATES]
    errors = [float(F.mse_loss(judged @ one_KC, targets_NC[count:])) for one_KC in shrunk]
    return CANDIDATES[min(range(len(errors)), key=errors.__getitem__)], errors


class RanPAC(Collecting):
    """Classifies by ridge regression on relu(f·W), W a fixed random matrix [0].

    Of all tasks so far the Gram matrix (M, M) and the classes' sums are kept. Each task chooses λ
    anew, on its own samples in random order. It stands in for the network's head in evaluation:
    the exported weights have the head as it was trained, if it was. [0] tunes adapters in the
    first task: ``tuned: first`` beside ``lora`` does so. Where later tasks are trained, too
    (``tuned: always``), points of curves within a task have the head that the task before left.
    """

    summary: ClassVar[str] = "ridge regression on random features, without training"

    features: int = Field(
        10_000,
        ge=1,
        description="M, random features: memory grows as M² and, while a task is taken in, as M "
        "times its images",
    )

    #: ``random`` W (F, M), ``gram`` (M, M), ``sums`` (M, C), ``head`` (C, M); float32, as in [0].
    _memory: dict[str, Tensor] = {}

    def absorb(self, theta: State, context: Context) -> None:
        classes, width = theta[context.head[0]].shape
        if not self._memory:
            random = generator(context.seed)
            self._memory = {
                "random": torch.randn(width, self.features, generator=random),
                "gram": torch.zeros(self.features, self.features),
                "sums": torch.zeros(self.features, classes),
            }
        memory = {name: x.to(context.device) for name, x in self._memory.items()}
        found = [
            (F.relu(features_BF.float() @ memory["random"]), labels_B)
            for features_BF, labels_B in collected(theta, context)
        ]
        random_NM, labels_N = (torch.cat(parts) for parts in zip(*found, strict=True))
        order = torch.randperm(len(labels_N), generator=generator(context.seed, 1))
        random_NM = random_NM[order.to(random_NM.device)].double()
        targets_NC = F.one_hot(labels_N[order.to(labels_N.device)], classes).double()
        strength, _ = choose_ridge(random_NM, targets_NC)
        for first in range(0, self.features, ROWS):
            rows = slice(first, first + ROWS)
            memory["gram"][rows] += (random_NM[:, rows].T @ random_NM).float()
        memory["sums"] += (random_NM.T @ targets_NC).float()
        head = ridge(memory["gram"], memory["sums"], strength)
        self._memory = memory | {"head": head.float()}
        self._activity = {"active": 1.0, "ridge": strength}

    def classifier(self) -> Callable[[Tensor], Tensor] | None:
        if "head" not in self._memory:
            return None
        return self._classify

    def _classify(self, features_BF: Tensor) -> Tensor:
        random, head = (self._memory[name].to(features_BF.device) for name in ("random", "head"))
        return F.relu(features_BF @ random) @ head.T
