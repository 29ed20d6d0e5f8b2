"""AdamW whose step changes only a share of the entries of every tensor.

[0] Chen et al., *MoFO: momentum-filtered optimizer for mitigating forgetting in LLM fine-tuning*,
    Algorithm 1.
[1] The authors' code. It differs from [0]: biases and parameters with "norm" in the name are not
    filtered, every entry tied with the threshold is updated, small tensors raise an error.
[2] Hui et al., *HFT: half fine-tuning for large language models*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from clbench.optim.masked import Decay, MaskedOptimizer, Select


class MaskedAdamW(MaskedOptimizer):
    """AdamW that updates, in every tensor, only a share of the entries in each step.

    Both moments are kept up for all entries, as in AdamW. Per tensor, only
    ``max(1, int(numel·fraction))`` entries are then changed: those of largest magnitude of the
    first moment [0], of the gradient, or random ones. With ``half_blocks``, whole tensors are
    changed or not: a random share of those of each layer [2].

    ``fraction=1.0`` computes exactly what ``torch.optim.AdamW`` does with the same ``foreach`` and
    ``fused``. The state has AdamW's form: either loads the other's state dict. Random choices
    depend on ``seed`` and on the number of steps only, so that a resumed run goes on identically
    and processes that train together agree.

    Args:
        params: parameters, ``model.named_parameters()`` (torch 2.6 and later), or groups. A group
            may have its own ``lr``, ``betas``, ``eps``, ``weight_decay``, ``select``,
            ``fraction``, ``decay``, ``unfiltered`` and ``seed``.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the denominator.
        weight_decay: decoupled weight decay, per step and unit of learning rate.
        select: what decides which entries are updated.
        fraction: share of the entries (for half_blocks: of the tensors of each layer) that are
            updated, in (0, 1]; default: 0.15, and 0.5 for half_blocks.
        decay: weight decay reaches ``all`` entries [1], or the ``selected`` ones only.
        unfiltered: patterns like ``"head.*"``; parameters with such a name are updated in full.
            :data:`BIAS_AND_NORM` is the authors' rule [1]. Without names, put them into a group
            with ``fraction=1.0``.
        seed: of the random choices.
        foreach: compute with torch's multi-tensor operations.
        fused: compute with torch's fused kernels, the default where there are any.

    Raises:
        ValueError: if a number is out of range, a rule has no such name, ``unfiltered`` is given
            for parameters without names, or both ``foreach`` and ``fused`` are True.

    >>> weights = torch.nn.Parameter(torch.zeros(4))
    >>> optimizer = MaskedAdamW([weights], lr=0.1, fraction=0.5)
    >>> weights.grad = torch.tensor([1.0, -4.0, 3.0, 2.0])
    >>> optimizer.step()
    >>> weights.detach()
    tensor([ 0.0000,  0.1000, -0.1000,  0.0000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        select: Select = "momentum",
        fraction: float | None = None,
        *,
        decay: Decay = "all",
        unfiltered: Sequence[str] = (),
        seed: int = 0,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "select": select,
            "fraction": fraction,
            "decay": decay,
            "unfiltered": unfiltered,
            "seed": seed,
            "draws": 0,
            "foreach": foreach,
            "fused": fused,
        }
        super().__init__(params, defaults)

    def _full_step(
        self, group: dict[str, Any], parameters: list[Tensor], grads: list[Tensor]
    ) -> None:
        for p in parameters:
            if not self.state[p]:
                device = p.device if group["fused"] else torch.device("cpu")
                self.state[p]["step"] = torch.zeros((), dtype=torch.float32, device=device)
        adamw(
            parameters,
            grads,
            [self._moment(p, "exp_avg") for p in parameters],
            [self._moment(p, "exp_avg_sq") for p in parameters],
            [],
            [self.state[p]["step"] for p in parameters],
            foreach=group["foreach"],
            fused=group["fused"],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


class MoFO(MaskedAdamW):
    """Momentum-filtered AdamW [0, Algorithm 1]: :class:`MaskedAdamW` with ``select="momentum"``.

    The paper filters every tensor with a fraction of 0.05 to 0.2; the authors' code leaves biases
    and norm layers unfiltered: ``unfiltered=BIAS_AND_NORM`` [1].

    Args:
        params: as for :class:`MaskedAdamW`.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the denominator.
        weight_decay: decoupled weight decay.
        fraction: share of each tensor's entries that are updated, in (0, 1].
        decay: weight decay reaches ``all`` entries [1], or the ``selected`` ones only.
        unfiltered: patterns of the names of parameters that are updated in full.
        foreach: compute with torch's multi-tensor operations.
        fused: compute with torch's fused kernels, the default where there are any.

    Raises:
        ValueError: as for :class:`MaskedAdamW`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        fraction: float = 0.15,
        *,
        decay: Decay = "all",
        unfiltered: Sequence[str] = (),
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            "momentum",
            fraction,
            decay=decay,
            unfiltered=unfiltered,
            foreach=foreach,
            fused=fused,
        )
