"""The space that inputs of past tasks have spanned, layer by layer: gradient projection memory.

[0] Saha et al., *Gradient projection memory for continual learning*, section 4: GPM.
[1] Liang and Li, *Adaptive plasticity improvement for continual learning*: DualGPM, which keeps
    the smaller one of the space and what is orthogonal to it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Shares of energy below this are rounding.
LEAST = 1e-12


class Spanned(NamedTuple):
    """The space that inputs of past tasks have spanned, by the smaller of two bases.

    Attributes:
        basis: (n, m), orthonormal: of the space, or of what is orthogonal to it.
        free: whether it is the latter.
    """

    basis: Tensor
    free: bool

    def rest(self, matrix: Tensor) -> Tensor:
        """What of the columns of a matrix (n, k) is orthogonal to the space."""
        inside = self.basis @ (self.basis.T @ matrix)
        return inside if self.free else matrix - inside


def dual_gpm(matrix: Tensor, spanned: Spanned | None, share: float) -> Spanned:
    """DualGPM [1]: the space that is spanned after a task, of so much of its inputs' energy.

    Args:
        matrix: (n, n); the squares of its singular values are the energy along its directions.
        spanned: by past tasks. The first task adds all directions with which the share is not yet
            reached, one at least; later ones those with which it is.
        share: of the energy, in [0, 1].
    """
    total, size = matrix.square().sum(), len(matrix)
    if spanned is None:
        left, sizes, _ = torch.linalg.svd(matrix)
        count = int((sizes.square().cumsum(0) / total < share).sum())
        spanned = Spanned(left[:, : max(count, 1)], False)
    else:
        basis, rest = spanned.basis, spanned.rest(matrix)
        left, sizes, _ = torch.linalg.svd(rest)
        # Energy outside of the space, before each direction that could be added.
        outside = rest.square().sum() - torch.cat([total.new_zeros(1), sizes.square().cumsum(0)])
        room = basis.shape[1] if spanned.free else size - basis.shape[1]
        count = min(int((outside[:-1] / total > 1 - share + LEAST).cummin(0).values.sum()), room)
        if spanned.free:
            kept = basis - left[:, :count] @ (left[:, :count].T @ basis)
            left = torch.linalg.svd(kept, full_matrices=False)[0]
            basis = left[:, : basis.shape[1] - count]
        else:
            basis = torch.cat([basis, left[:, :count]], 1)
        spanned = Spanned(basis, spanned.free)
    taken = spanned.basis.shape[1]
    if not spanned.free and taken > size / 2:
        spanned = Spanned(torch.linalg.svd(spanned.basis)[0][:, taken:], True)
    return spanned
