"""From trained weights to those that are evaluated, and those the next task starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from clbench.methods.base import Context, Method, overriding
from clbench.models.batch_norm import chunks, least_batch
from clbench.weights import State, snapshot


@dataclass(frozen=True)
class Weights:
    """The weights of a task, all of them as the plain network has them.

    Attributes:
        trained: after its last step.
        carried: what the next task starts from.
        shown: what is evaluated. One object with ``carried`` unless a method keeps its result to
            the evaluation.
    """

    trained: State
    carried: State
    shown: State


def unwrap(methods: Sequence[Method], theta: State) -> State:
    """The plain network's weights from those that were trained: surgery undone, the last first."""
    for surgeon in overriding(methods, "surgery")[::-1]:
        theta = surgeon.unwrap(theta)
    return theta


def deploy(
    methods: Sequence[Method],
    theta: State,
    context: Context,
    refresh: Callable[[State], State] | None = None,
    absorb: bool = True,
) -> Weights:
    """Fold the methods' ``absorb`` and ``deploy``.

    Args:
        methods: in order.
        theta: weights as trained, of the plain network.
        context: of the task.
        refresh: gives averaged weights running statistics that fit; done once, after the last
            method that averages and before those that build on its result.
        absorb: whether methods remember the task; not where they have done so already.
    """
    deploying = [bool(overriding([method], "deploy")) for method in methods]
    averaged = max((i for i, m in enumerate(methods) if deploying[i] and m.averages), default=-1)
    carried = shown = theta
    if refresh is not None and averaged < 0:  # averaged while training
        carried = shown = refresh(theta)
    for number, method in enumerate(methods):
        if absorb:
            method.absorb(shown, context)
        if deploying[number]:
            same = shown is carried
            if method.carries and not same:
                carried = method.deploy(carried, context)
            shown = method.deploy(shown, context)
            carried = shown if method.carries and same else carried
        if refresh is not None and number == averaged:
            same = shown is carried
            carried = refresh(carried)
            shown = carried if same else refresh(shown)
    return Weights(theta, carried, shown)


def refresh_batch_norm(
    model: nn.Module, theta: State, rule: str, pretrained: State, context: Context
) -> State:
    """Running statistics that fit averaged weights.

    Args:
        model: the network; holds ``theta`` afterwards where statistics are recomputed.
        theta: averaged weights, their statistics averaged along.
        rule: the recipe's ``model.batch_norm``: ``average`` leaves them, ``recompute`` takes them
            anew from the task's training images, ``pretrained`` from the pretrained weights.
        pretrained: the pretrained weights.
        context: of the task.

    Returns:
        ``theta`` with the statistics of the rule.
    """
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    }
    if rule == "average" or not norms:
        return theta
    if rule == "pretrained":
        names = [f"{norm}.{part}" for norm in norms for part in ("running_mean", "running_var")]
        return theta | {name: pretrained[name].cpu() for name in names}
    model.load_state_dict(theta)
    model.eval()
    momenta = {name: module.momentum for name, module in norms.items()}
    for module in norms.values():
        module.reset_running_stats()
        module.momentum = None  # a plain mean over all batches
        module.train()
    device = next(model.parameters()).device
    reader, split = context.reader, context.task.train
    least = least_batch(model, context.head, lambda name: True, reader.transform.size)
    parts = chunks(torch.arange(len(split)), reader.batch_size, least)
    with torch.no_grad():
        for inputs, _, _ in reader.batches(split, device, parts):
            model(inputs)
    for name, module in norms.items():
        module.momentum = momenta[name]
    return snapshot(model, "cpu")
