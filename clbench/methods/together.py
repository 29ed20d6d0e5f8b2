"""Which methods go together: by what they say of themselves, each pair found from either side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import TYPE_CHECKING

from clbench.errors import ClbenchError
from clbench.methods.base import Method, overriding
from clbench.models.kind import kind_of, sketched

if TYPE_CHECKING:
    from clbench.methods.plan import Training
    from clbench.models.settings import ModelConfig

#: Hooks that are nothing without steps.
IN_TRAINING = (
    *("surgery", "examples", "trainable", "rows", "optimizer", "rate", "admit", "weights"),
    *("sample_losses", "penalty", "observe", "project", "after_step"),
)


def refuse_clashes(methods: Mapping[str, Method], optimizer: str, independent: bool) -> None:
    """Refuse methods that cannot go together.

    Args:
        methods: by name, in the recipe's order.
        optimizer: the recipe's optimiser.
        independent: whether every task starts from the pretrained weights.

    Raises:
        ClbenchError: naming the methods, the reason and the way out.
    """
    for name, beside in permutations(sorted(methods), 2):
        if why := methods[name].alone:
            raise ClbenchError(f"methods: {name} {why}; leave it out beside {beside}")
    for one, other in permutations(methods, 2):
        for conflict in _against(one, methods[one], other, methods[other]):
            raise ClbenchError(f"methods: {conflict}")
    for name, method in methods.items():
        for conflict in _alone(name, method, optimizer, independent):
            raise ClbenchError(f"methods: {conflict}")


def refuse_settings(methods: Mapping[str, Method], recipe: Training) -> None:
    """Refuse settings of training that a method cannot go with.

    Args:
        methods: by name.
        recipe: with the settings.

    Raises:
        ClbenchError: naming the method, the setting, the reason and the way out.
    """
    for name, method in methods.items():
        _refuse_network(name, method, recipe.model)
        for asked in overriding([method], "refuses"):
            if reason := asked.refuses(recipe, sketched(recipe.model)):
                raise ClbenchError(f"methods: {name} {reason}")
        if recipe.augment.mixes and not _mixable(method):
            raise ClbenchError(
                f"methods: {name} looks at single samples, and augment.mixup and cutmix make one "
                "of two: set both to 0"
            )
        if recipe.early_stopping.every and method.counts_steps:
            raise ClbenchError(
                f"methods: {name} acts at steps that it counts from a task's end, and with "
                "early_stopping nobody knows when that is: leave out one of them"
            )
        if recipe.optimizer.grouped and overriding([method], "optimizer"):
            raise ClbenchError(
                f"methods: {name} brings an optimiser of its own, with one rate and decay for all: "
                "leave optimizer.head_rate, layer_decay and decay_norms out"
            )


def _refuse_network(name: str, method: Method, config: ModelConfig) -> None:
    kind = kind_of(config) if method.networks else None
    if kind is not None and kind not in method.networks:
        known = " or ".join(network.__name__ for network in method.networks)
        raise ClbenchError(
            f"methods: {name} works on timm's {known} alone, and model.backbone = "
            f"{config.backbone!r} is a {kind.__name__}: choose another one, "
            + (f"say methods.{name}.{method.elsewhere}, " if method.elsewhere else "")
            + f"or leave {name} out"
        )


def _mixable(method: Method) -> bool:
    said = method.mixable
    return not overriding([method], "weights") if said is None else said


def _against(name: str, method: Method, beside: str, rival: Method) -> Iterator[str]:
    """What a method has against another one beside it."""
    both = f"{name} and {beside}"
    if beside in method.clashes:
        yield f"{both} do not go together: {method.clashes[beside]}; choose one"
    if method.joint and rival.needs.past_tasks:
        yield f"{both} do not go together: {name} has no past task, as it learns all at once"
    if method.joint and rival.first_task > 1:
        yield f"{_late(beside, rival)} {name} learns all at once{_sooner(beside, rival)}"
    if method.rewinds and rival.rewinds:
        yield f"{both} both rewind every task to the pretrained weights; choose one"
    if method.makes_head and rival.makes_head:
        yield f"{both} do not go together: each makes the head; choose one"
    if len(overriding([method, rival], "optimizer")) > 1:
        yield f"{both} each bring an optimiser; choose one"
    if len(overriding([method, rival], "sample_losses")) > 1:
        yield f"{both} each bring a loss in place of the cross-entropy; choose one"
    if len(overriding([method, rival], "classifier")) > 1:
        yield f"{both} each classify in place of the head; choose one"
    last, first = method.last_trained, max(rival.first_task, 1 + rival.needs.past_tasks)
    if last is not None and last < first and _trains(rival):
        after = f" after task {last}" if last else ""
        acts = f"training from task {first} on" if last else "training"
        yield (
            f"{both} do not go together: {name} leaves nothing to train{after}, and {beside} acts "
            f"in {acts}; leave one of them out" + (_trained(name, method) if first == 1 else "")
        )


def _alone(name: str, method: Method, optimizer: str, independent: bool) -> Iterator[str]:
    """What a method has against the rest of the recipe."""
    if independent and method.first_task > 1:
        yield (
            f"{_late(name, method)} with stream.independent no task has any before it"
            + _sooner(name, method)
        )
    if independent and (method.needs.past_tasks or method.joint or method.rewinds):
        yield (
            f"{name} needs tasks that follow each other, but with stream.independent every task "
            "starts anew; leave one of them out"
        )
    if method.optimizers and optimizer not in method.optimizers:
        known = " or ".join(method.optimizers)
        yield (
            f"{name} is a rule for the updates of {known}: set optimizer.name: {known}, not "
            f"{optimizer}, and a learning rate that suits it"
        )


def _trains(method: Method) -> bool:
    """Whether it is nothing without steps."""
    return method.probes or any(overriding([method], hook) for hook in IN_TRAINING)


def _late(name: str, method: Method) -> str:
    return f"{name} acts from task {method.first_task} on, and"


def _trained(name: str, method: Method) -> str:
    return f", or say methods.{name}.{method.trained}" if method.trained else ""


def _sooner(name: str, method: Method) -> str:
    return f"; methods.{name}.{method.sooner}" if method.sooner else "; leave one of them out"
