"""Momentum-filtered optimiser (MoFO).

[0] Chen et al., *MoFO: momentum-filtered optimizer for mitigating forgetting in LLM fine-tuning*,
    Algorithm 1.
[1] The authors' code, which leaves biases and norm layers unfiltered.
[2] Chen et al., *Symbolic discovery of optimization algorithms*, Algorithm 2 (Lion).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch import nn

from clbench.methods.base import Context, Method, Needs
from clbench.optim import MaskedAdamW, MaskedLion

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from clbench.optim.settings import Optimizer as OptimizerSettings


def bias_and_norm(model: nn.Module) -> frozenset[str]:
    """The parameters that the authors' code leaves unfiltered: biases and norm layers [1].

    The authors go by names; here the kind of the module counts too, as ``bn1`` and
    ``downsample.1`` of a ResNet are norm layers whose names do not say so.

    Args:
        model: any network.

    Returns:
        Names, as in ``model.named_parameters()``.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    >>> sorted(bias_and_norm(model))
    ['0.bias', '1.bias', '1.weight']
    """
    found = set()
    for prefix, module in model.named_modules():
        norm = "norm" in type(module).__name__.lower()
        for leaf, _ in module.named_parameters(recurse=False):
            name = f"{prefix}.{leaf}" if prefix else leaf
            if norm or "norm" in name or leaf.endswith("bias"):
                found.add(name)
    return frozenset(found)


class MoFO(Method):
    """AdamW that updates, in each tensor, the entries of largest momentum [0, Algorithm 1].

    It stands in for the recipe's optimiser, with the settings of that. On ``optimizer.name: lion``
    the same rule filters Lion's updates by Lion's momentum [2], which [0] does not try. Weight
    decay reaches all entries unless ``decay: selected``. With ``fraction: 1`` the recipe's
    optimiser is used as it is.
    """

    summary: ClassVar[str] = "AdamW that updates the entries of largest momentum only"
    neutral: ClassVar[Mapping[str, float]] = {"fraction": 1.0}
    needs: ClassVar[Needs] = Needs()
    optimizers: ClassVar[tuple[str, ...]] = ("adamw", "lion")
    scope_means: ClassVar[str] = "entries that a step leaves alone: lower fraction"

    fraction: float = Field(
        0.15, gt=0, le=1, description="share of each tensor's entries that a step updates"
    )
    select: Literal["momentum", "gradient", "random"] = Field(
        "momentum", description="what decides which; gradient and random are the paper's ablations"
    )
    filter: Literal["all", "not_bias_norm"] = Field(
        "all", description="tensors filtered: all (paper), or not biases and norms (authors' code)"
    )
    decay: Literal["all", "selected"] = Field(
        "all", description="entries that optimizer.weight_decay reaches: all (authors' code)"
    )

    _seed: int = 0
    _unfiltered: frozenset[str] = frozenset()
    _optimizer: MaskedAdamW | MaskedLion | None = None

    def start(self, context: Context) -> None:
        self._seed, self._optimizer = context.seed, None
        everything = self.filter == "all"
        self._unfiltered = frozenset() if everything else bias_and_norm(context.model)

    def optimizer(
        self, parameters: Sequence[tuple[str, nn.Parameter]], settings: OptimizerSettings
    ) -> Optimizer | None:
        if self.fraction == 1:
            return None
        filtered = [p for name, p in parameters if name not in self._unfiltered]
        full = [p for name, p in parameters if name in self._unfiltered]
        groups = [
            {"params": filtered, "fraction": self.fraction},
            {"params": full, "fraction": 1.0},
        ]
        groups = [group for group in groups if group["params"]]
        lr, decay, (betas, eps) = settings.lr, settings.weight_decay, settings.moments
        if settings.name == "lion":
            self._optimizer = MaskedLion(
                groups, lr, betas, decay, self.select, decay=self.decay, seed=self._seed
            )
        else:
            self._optimizer = MaskedAdamW(
                groups,
                lr,
                betas,
                eps,
                decay,
                self.select,
                decay=self.decay,
                seed=self._seed,
            )
        return self._optimizer

    def activity(self) -> dict[str, float]:
        share = 1.0 if self._optimizer is None else self._optimizer.updated_share
        return {"updated_share": share, "active": float(share < 1), "scope": 1 - share}
