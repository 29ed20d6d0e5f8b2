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


def deploy(
    methods: Sequence[Method],
    theta: State,
    context: Context,
    refresh: Callable[[State], State] | None = None,
) -> Weights:
    """Fold the methods' ``deploy``.

    Args:
        methods: in order. Those with a ``surgery`` give plain weights back before others work on
            them, the last one of them foremost.
        theta: the weights of the network that was trained.
        context: of the task.
        refresh: gives averaged weights running statistics that fit; done once, after the last
            method that averages and before those that build on its result.
    """
    for surgeon in overriding(methods, "surgery")[::-1]:
        theta = surgeon.deploy(theta, context)
    order = [m for m in overriding(methods, "deploy") if not overriding([m], "surgery")]
    averaged = max((i for i, m in enumerate(order) if m.averages), default=-1)
    carried = shown = theta
    if refresh is not None and averaged < 0:  # averaged while training
        carried = shown = refresh(theta)
    for number, method in enumerate(order):
        deployed = method.deploy(shown, context)
        if method.carries:
            carried = deployed if shown is carried else method.deploy(carried, context)
        shown = deployed
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
