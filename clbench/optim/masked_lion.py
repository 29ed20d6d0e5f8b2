"""Lion whose step changes only a share of the entries of every tensor.

[0] Chen et al., *Symbolic discovery of optimization algorithms*, Algorithm 2 (Lion).
[1] Chen et al., *MoFO: momentum-filtered optimizer for mitigating forgetting in LLM fine-tuning*,
    whose Table 1 has plain Lion; its rule on Lion is this project's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from clbench.optim.masked import Decay, MaskedOptimizer, Select


class MaskedLion(MaskedOptimizer):
    """Lion that updates, in every tensor, only a share of the entries in each step.

    The momentum is kept up for all entries, as in Lion: m ← β₂·m + (1 − β₂)·g. Per tensor, only
    ``max(1, int(numel·fraction))`` entries are then changed, by −lr·sign(β₁·m + (1 − β₁)·g): those
    of largest magnitude of the momentum that has just been kept up, of the gradient, or random
    ones. All entries of Lion's step are equally long, so that without the filter every entry moves.

    Args:
        params: as for :class:`clbench.optim.MaskedAdamW`.
        lr: learning rate; Lion's is three to ten times smaller than AdamW's.
        betas: β₁ of the update, β₂ of the momentum.
        weight_decay: decoupled weight decay, per step and unit of learning rate.
        select: what decides which entries are updated.
        fraction: share of the entries that are updated, in (0, 1]; default: 0.15.
        decay: weight decay reaches ``all`` entries, or the ``selected`` ones only.
        unfiltered: patterns of the names of parameters that are updated in full.
        seed: of the random choices.

    Raises:
        ValueError: as for :class:`clbench.optim.MaskedAdamW`.

    >>> weights = torch.nn.Parameter(torch.zeros(4))
    >>> optimizer = MaskedLion([weights], lr=0.1, fraction=0.5)
    >>> weights.grad = torch.tensor([1.0, -4.0, 3.0, 2.0])
    >>> optimizer.step()
    >>> weights.detach()
    tensor([ 0.0000,  0.1000, -0.1000,  0.0000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        select: Select = "momentum",
        fraction: float | None = None,
        *,
        decay: Decay = "all",
        unfiltered: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "select": select,
            "fraction": fraction,
            "decay": decay,
            "unfiltered": unfiltered,
            "seed": seed,
            "draws": 0,
            "foreach": True,
            "fused": False,
        }
        super().__init__(params, defaults)

    def _full_step(
        self, group: dict[str, Any], parameters: list[Tensor], grads: list[Tensor]
    ) -> None:
        beta1, beta2 = group["betas"]
        momenta = [self._moment(p, "exp_avg") for p in parameters]
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        updates = torch._foreach_lerp(momenta, grads, 1 - beta1)
        torch._foreach_sign_(updates)
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])
        torch._foreach_lerp_(momenta, grads, 1 - beta2)
