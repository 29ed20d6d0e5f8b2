"""Subspaces of layers' inputs: bases that grow from task to task, and steps across them.

[0] Saha et al., *Gradient projection memory for continual learning*, section 5.
[1] Its authors' program.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Directions with less than this share of all energy are rounding.
LEAST = 1e-12


def extended(basis_NK: Tensor, gram_NN: Tensor, threshold: float, below: bool = False) -> Tensor:
    """A basis of the inputs' space, with the fewest directions that a task's inputs need [0].

    Args:
        basis_NK: orthonormal columns; none before the first task.
        gram_NN: Σ x·xᵀ over the task's inputs x.
        threshold: ε, the share of Σ‖x‖² that the basis shall hold (eqs. 5 and 9).
        below: take one fewer, the most that stay below ε, as [1] does in the first task.

    Returns:
        float64 (N, K'), its first columns those of ``basis_NK``.

    >>> extended(torch.zeros(2, 0), torch.diag(torch.tensor([9.0, 1.0])), 0.8)
    tensor([[1.],
            [0.]], dtype=torch.float64)
    """
    gram = gram_NN.double()
    basis = basis_NK.to(gram)
    across = torch.eye(len(gram), dtype=gram.dtype, device=gram.device) - basis @ basis.T
    values, vectors = torch.linalg.eigh(across @ gram @ across)  # in ascending order
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    # Their signs are anybody's choice: the largest entry is positive.
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0)[None]).sign()
    total = gram.trace()
    held = total - values.sum() + values.cumsum(0)  # with each of them
    wanted = (held if below else held - values) < threshold * total
    return torch.cat([basis, vectors[:, wanted & (values > LEAST * total)]], 1)


def across(change: Tensor, basis_GNK: Tensor) -> Tensor:
    """A weight's gradient or change without its part along the basis, g − g·M·Mᵀ [0, eqs. 6, 7].

    Args:
        change: (out, …), of a linear layer or a convolution with G groups.
        basis_GNK: orthonormal columns, or zeros, for each group; N entries a row of the weight.
    """
    rows = change.reshape(len(basis_GNK), -1, basis_GNK.shape[1])
    return change - (rows @ basis_GNK @ basis_GNK.mT).reshape(change.shape)
