"""Gaussians of classes in place of their images, and a head that is trained on draws from them.

[0] Zhang et al., *SLCA: slow learner with classifier alignment for continual learning on a
    pre-trained model*, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Added to the diagonal of a covariance [0]; what a norm is at least.
RIDGE, LEAST = 1e-4, 1e-7


def gaussian(features_NF: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and covariance (F, F) of a class, the latter with :data:`RIDGE` [0].

    Of one sample the covariance is the ridge alone.
    """
    mean_F, count = features_NF.mean(0), len(features_NF)
    apart_NF = features_NF - mean_F
    covariance_FF = apart_NF.T @ apart_NF / max(1, count - 1)
    return mean_F, covariance_FF + RIDGE * torch.eye(len(mean_F)).to(covariance_FF)


def at_one_length(logits_BC: Tensor, groups: Sequence[Tensor], temperature: float) -> Tensor:
    """Logits divided by τ and by the mean over tasks of the norms of their parts [0].

    Args:
        logits_BC: of samples.
        groups: int64 (K,) each: the columns of a task.
        temperature: τ, above 0.

    >>> at_one_length(torch.tensor([[3.0, 4.0]]), [torch.tensor([0, 1])], 1.0)
    tensor([[0.6000, 0.8000]])
    """
    norms = [logits_BC[:, columns].norm(dim=1, keepdim=True) + LEAST for columns in groups]
    return logits_BC / torch.cat(norms, 1).mean(1, keepdim=True) / temperature


def align(
    head: Sequence[Tensor],
    epochs: Iterable[tuple[float, Iterable[tuple[Tensor, Tensor]]]],
    groups: Sequence[Tensor],
    temperature: float | None,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
) -> list[Tensor]:
    """A head after SGD on drawn features, of logits at one length.

    Args:
        head: weight (C, F) and, if there is one, bias (C,).
        epochs: of each, its rate, and its batches of features (B, F) and rows int64 (B,).
        groups, temperature: as for :func:`at_one_length`; None leaves logits as they are.
        momentum, weight_decay: of SGD; the defaults are those of [0].

    Returns:
        The new weight and bias.
    """
    trained = [part.detach().clone().requires_grad_() for part in head]
    optimizer = torch.optim.SGD(trained, 0.0, momentum, weight_decay=weight_decay)
    for rate, batches in epochs:
        optimizer.param_groups[0]["lr"] = rate
        for inputs_BF, rows_B in batches:
            with torch.enable_grad():
                logits_BC = F.linear(inputs_BF, *trained)
                if temperature is not None:
                    logits_BC = at_one_length(logits_BC, groups, temperature)
                loss = F.cross_entropy(logits_BC, rows_B)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [part.detach() for part in trained]
