"""Optimisers and schedules by name, from timm's and torch's own factories.

timm's optimisers have names in lower case (``timm.optim.list_optimizers()``), torch's those of
their classes (``torch.optim.Rprop``). Lengths of timm's schedules, which it counts in epochs, are
shares of the steps here: one epoch of timm's is the whole schedule.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer as TorchOptimizer

from clbench.errors import ClbenchError, reason
from clbench.explain import nearest

#: Of torch's, those that one backward pass a step is not enough for, or dense gradients too much.
_REFUSED = {
    "LBFGS": "evaluates the loss several times a step",
    "SparseAdam": "takes sparse gradients alone",
}
#: Arguments of timm's schedules that a recipe may set, and what some cannot do without.
SCHEDULE_OPTIONS = (
    *("decay_epochs", "decay_milestones", "decay_rate", "min_lr", "k_decay", "decay_fn"),
    *("stable_timescale", "noise", "noise_pct", "noise_std", "noise_seed"),
)
_WANTED = {
    "step": "decay_epochs",
    "multistep": "decay_milestones",
    "poly": "decay_rate",
    "rsqrt": "stable_timescale",
}


def wrong_optimizer(name: str) -> str:
    """Why there is no optimiser of a name; empty if there is."""
    from timm.optim import get_optimizer_info, list_optimizers  # type: ignore[attr-defined]

    ours = [str(name) for name in list_optimizers()]
    torchs = _torch_classes()
    if name in _REFUSED:
        return f"{name} {_REFUSED[name]}, which clbench does not do: take another one"
    if name in torchs:
        return ""
    if name.lower() != name or name not in ours:
        near = nearest(name, ["sgd", "adamw", "lion", *ours, *torchs])
        return (
            f"there is no optimiser {name!r}{near}: take sgd, adamw, lion, one of "
            "timm.optim.list_optimizers(), or a class of torch.optim"
        )
    if get_optimizer_info(name).second_order:
        return f"{name} needs second derivatives, which clbench does not take: take another one"
    return ""


def make_named(
    name: str,
    parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]],
    lr: float,
    fields: Mapping[str, Any],
    options: Mapping[str, Any],
) -> TorchOptimizer:
    """An optimiser of timm's or torch's.

    Args:
        name: timm's, or the class of torch's.
        parameters: what is trained, or groups of it.
        lr: the learning rate.
        fields: those that some have, such as betas; passed on to those, but for None and False,
            which leave an optimiser its own.
        options: its other arguments.

    Raises:
        TypeError, ValueError: if it does not take the settings.
        ImportError: if it needs a package that is not there.
    """
    from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]

    taken = taken_by(name)
    own = {k: v for k, v in fields.items() if k in taken and v is not None and v is not False}
    if name in _torch_classes():
        return _class_of(name)(parameters, lr=lr, **own, **options)
    return create_optimizer_v2(parameters, name, lr=lr, **own, **options)


def taken_by(name: str) -> set[str]:
    """The arguments of an optimiser that :func:`wrong_optimizer` finds nothing wrong with."""
    try:
        return set(inspect.signature(_class_of(name)).parameters)
    except ImportError:  # of a package that is not there, which making it says
        return set()


def _class_of(name: str) -> Callable[..., TorchOptimizer]:
    from timm.optim import get_optimizer_class  # type: ignore[attr-defined]

    if name in _torch_classes():
        return getattr(torch.optim, name)  # type: ignore[no-any-return]
    return get_optimizer_class(name, bind_defaults=False)  # type: ignore[no-any-return]


def _torch_classes() -> list[str]:
    return [
        name
        for name, cls in vars(torch.optim).items()
        if inspect.isclass(cls) and issubclass(cls, TorchOptimizer) and cls is not TorchOptimizer
    ]


def wrong_schedule(name: str, options: Mapping[str, Any]) -> str:
    """Why a schedule of timm's cannot be made of options; empty if it can."""
    for key in options:
        if key not in SCHEDULE_OPTIONS:
            return (
                f"options.{key}: there is none{nearest(key, SCHEDULE_OPTIONS)}; there are "
                + ", ".join(SCHEDULE_OPTIONS)
            )
    if (wanted := _WANTED.get(name)) and wanted not in options:
        return f"{name} needs options.{wanted}: say how, as lengths in shares of the steps"
    try:
        factor = make_schedule(name, options, 100)
        found = [factor(step) for step in range(100)]
    except (ClbenchError, TypeError, ValueError, ZeroDivisionError, AssertionError) as error:
        return f"{name} cannot be made of these options: {reason(error)}"
    if not all(isinstance(rate, float | int) and 0 <= rate < 1e6 for rate in found):
        return f"{name} has rates below 0 or without bound with these options: choose others"
    return ""


def make_schedule(name: str, options: Mapping[str, Any], steps: int) -> Callable[[int], float]:
    """A schedule of timm's: the factor of the peak rate at each step from 0.

    Args:
        name: timm's.
        options: of ``timm.scheduler.create_scheduler_v2``; lengths are shares of ``steps``.
        steps: of the whole schedule; over one alone the rate is its peak.

    Raises:
        ClbenchError: if this timm has no such schedule, or none so short.
    """
    if steps <= 1:
        return lambda step: 1.0
    from timm.scheduler import create_scheduler_v2  # type: ignore[attr-defined]

    counts = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    try:
        scheduler, _ = create_scheduler_v2(
            counts, name, num_epochs=1, step_on_epochs=False, updates_per_epoch=steps, **options
        )
    except (ValueError, AssertionError) as error:
        raise ClbenchError(
            f"schedule.name = {name!r} over {steps} steps: {reason(error)}: take more steps, other "
            "options or another schedule"
        ) from error
    if scheduler is None:
        raise ClbenchError(f"schedule.name = {name!r}: this release of timm has none: take another")

    def factor(step: int) -> float:
        scheduler.step_update(step)
        return float(counts.param_groups[0]["lr"])

    return factor
