"""Rows that are orthonormal, or nearly so."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def orthogonality(rows: Tensor) -> Tensor:
    """How far rows (…, M, F) are from orthonormal: the mean of (rows·rowsᵀ − I)², of each (…).

    CODA-Prompt's paper writes a norm; this is its authors' program's.

    >>> orthogonality(torch.eye(3))
    tensor(0.)
    """
    found = rows @ rows.transpose(-1, -2)
    return (found - torch.eye(rows.shape[-2], device=rows.device)).square().mean((-1, -2))


def gram_schmidt(before: Tensor, drawn: Tensor) -> Tensor:
    """Rows (…, N, F) of unit length: drawn ones without what earlier rows, and each other, have.

    Args:
        before: (…, M, F), rows that stay; what is left is orthogonal to them if they are so to each
            other. CODA-Prompt's program gives trained rows, which are not.
        drawn: (…, N, F).

    Raises:
        ValueError: if these are more than F rows, so that nothing could be left.

    >>> gram_schmidt(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[0., 1.]])
    """
    count, width = before.shape[-2] + drawn.shape[-2], drawn.shape[-1]
    if count > width:
        raise ValueError(f"{count} rows of {width} entries cannot be orthogonal to each other")
    rows = before
    for row in drawn.split(1, -2):
        squares = rows.square().sum(-1, keepdim=True)
        shares = (rows * row).sum(-1, keepdim=True) / squares.clamp_min(1e-30)
        left = row - (shares * rows).sum(-2, keepdim=True)
        rows = torch.cat([rows, F.normalize(left, dim=-1)], -2)
    return rows[..., before.shape[-2] :, :]
