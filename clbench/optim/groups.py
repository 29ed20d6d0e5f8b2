"""Groups of parameters with rates and decays of their own, by timm's rules for layers and decay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from clbench.errors import ClbenchError

if TYPE_CHECKING:
    from clbench.optim.settings import Optimizer


def parameter_groups(
    rules: Optimizer,
    named: Sequence[tuple[str, nn.Parameter]],
    model: nn.Module,
    head: Collection[str],
) -> list[nn.Parameter] | list[dict[str, Any]]:
    """What is trained, as an optimiser takes it.

    Args:
        rules: the settings.
        named: the parameters that are trained.
        model: the network that they belong to.
        head: names of the head's.

    Returns:
        The parameters in order; or groups of them, in the order of their first, where they differ
        in rate or decay. A group's ``scale`` is its share of the peak rate.

    Raises:
        ClbenchError: if rates are to decay by layer and timm knows no layers of the network.
    """
    if not rules.grouped:
        return [parameter for _, parameter in named]
    scales = _layer_scales(model, rules.layer_decay)
    still = set() if rules.decay_norms else _without_decay(model)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in named:
        scale = scales.get(id(parameter), 1.0) * (rules.head_rate if name in head else 1.0)
        decays = id(parameter) not in still
        group = groups.setdefault(
            (scale, decays),
            {
                "params": [],
                "lr": rules.lr * scale,
                "scale": scale,
                "weight_decay": rules.weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _layer_scales(model: nn.Module, decay: float) -> dict[int, float]:
    """The factor of each parameter's rate: 1 in the last layer, ``decay`` less in each below."""
    if decay == 1:
        return {}
    from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]

    groups = param_groups_layer_decay(model, layer_decay=decay)
    scales = {id(p): float(group["lr_scale"]) for group in groups for p in group["params"]}
    trained = sum(p.requires_grad for p in model.parameters())
    if trained > 1 and len(set(scales.values())) == 1:
        raise ClbenchError(
            f"optimizer.layer_decay = {decay:g}: all that is trained of this network is one layer "
            "to timm, so that nothing would decay: leave it out, or take another backbone"
        )
    return scales


def _without_decay(model: nn.Module) -> set[int]:
    """Parameters that timm lets no weight decay act on: of one dimension, or named by the model."""
    from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]

    named: set[str] = getattr(model, "no_weight_decay", set)()
    groups = param_groups_weight_decay(model, 1.0, no_weight_decay_list=named)
    return {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
