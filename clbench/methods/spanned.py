"""The space that inputs of past tasks have spanned, layer by layer: gradient projection memory.

[0] Saha et al., *Gradient projection memory for continual learning*, sections 4 and 5: GPM.
[1] Its authors' program.
[2] Liang and Li, *Adaptive plasticity improvement for continual learning*: DualGPM, which keeps
    the smaller one of the space and what is orthogonal to it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Directions with less than this share of all energy are rounding.
LEAST = 1e-12


def wanted(energies_N: Tensor, total: Tensor, share: float, below: bool) -> Tensor:
    """Which directions outside of a space it needs, to hold a share of the energy: bool (N,).

    Args:
        energies_N: along each direction, in descending order.
        total: (), what is inside of the space included.
        share: of the total.
        below: take one fewer, the most that stay below the share, as [1] does in the first task.
    """
    held_N = total - energies_N.sum() + energies_N.cumsum(0)  # with each of them
    needed_N = (held_N if below else held_N - energies_N) < share * total
    return needed_N & (energies_N > LEAST * total)


def extended(basis_NK: Tensor, gram_NN: Tensor, threshold: float, below: bool = False) -> Tensor:
    """A basis of the inputs' space, with the fewest directions that a task's inputs need [0].

    Args:
        basis_NK: orthonormal columns; none before the first task.
        gram_NN: Σ x·xᵀ over the task's inputs x.
        threshold: ε, the share of Σ‖x‖² that the basis shall hold (eqs. 5 and 9).
        below: see :func:`wanted`.

    Returns:
        float64 (N, K'), its first columns those of ``basis_NK``.

    >>> extended(torch.zeros(2, 0), torch.diag(torch.tensor([9.0, 1.0])), 0.8)
    tensor([[1.],
            [0.]], dtype=torch.float64)
    """
    gram = gram_NN.double()
    basis = basis_NK.to(gram)
    outside = torch.eye(len(gram), dtype=gram.dtype, device=gram.device) - basis @ basis.T
    values, vectors = torch.linalg.eigh(outside @ gram @ outside)  # in ascending order
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    # Their signs are anybody's choice: the largest entry is positive.
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0)[None]).sign()
    more = wanted(values, gram.trace(), threshold, below)
    return torch.cat([basis, vectors[:, more]], 1)


def across(change: Tensor, basis_GNK: Tensor) -> Tensor:
    """A weight's gradient or change without its part along the basis, g − g·M·Mᵀ [0, eqs. 6, 7].

    Args:
        change: (out, …), of a linear layer or a convolution with G groups.
        basis_GNK: orthonormal columns, or zeros, for each group; N entries a row of the weight.
    """
    rows = change.reshape(len(basis_GNK), -1, basis_GNK.shape[1])
    return change - (rows @ basis_GNK @ basis_GNK.mT).reshape(change.shape)


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
    """DualGPM [2]: the space that is spanned after a task, of so much of its inputs' energy.

    Args:
        matrix: (n, n); the squares of its singular values are the energy along its directions.
        spanned: by past tasks. The first task adds all directions with which the share is not yet
            reached, one at least; later ones those with which it is.
        share: of the energy, in [0, 1].
    """
    total, size = matrix.square().sum(), len(matrix)
    left, sizes, _ = torch.linalg.svd(matrix if spanned is None else spanned.rest(matrix))
    count = int(wanted(sizes.square(), total, share, below=spanned is None).sum())
    if spanned is None:
        spanned = Spanned(left[:, : max(count, 1)], False)
    elif spanned.free:
        basis, count = spanned.basis, min(count, spanned.basis.shape[1])
        kept = basis - left[:, :count] @ (left[:, :count].T @ basis)
        left = torch.linalg.svd(kept, full_matrices=False)[0]
        spanned = Spanned(left[:, : basis.shape[1] - count], True)
    else:
        count = min(count, size - spanned.basis.shape[1])
        spanned = Spanned(torch.cat([spanned.basis, left[:, :count]], 1), False)
    taken = spanned.basis.shape[1]
    if not spanned.free and taken > size / 2:
        spanned = Spanned(torch.linalg.svd(spanned.basis)[0][:, taken:], True)
    return spanned
