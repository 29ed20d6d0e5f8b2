"""How far a task has moved the network, and how it was trained, as the record tells it."""

from __future__ import annotations

from torch import nn

from clbench.methods.base import Context
from clbench.models.anchors import Anchor, named_weights
from clbench.weights import State, recorded_distance


def distances(context: Context, shown: State) -> dict[str, float]:
    """Euclidean distances of the evaluated weights from both anchors, over the trunk's parameters.

    The head is left out: every method trains it, and a task's rows are not even an anchor's own.
    """
    names = [name for name, _ in named_weights(context.model) if name not in context.head]

    def distance(anchor: Anchor) -> float:
        here = [anchor.state[name] for name in names]
        return recorded_distance(
            [shown[name].to(x.device) for name, x in zip(names, here, strict=True)], here
        )

    return {name: distance(anchor) for name, anchor in vars(context.anchors).items()}


def modes(model: nn.Module) -> dict[str, int]:
    """How the network was trained: numbers of trained and frozen parameters and normalisations."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {
        "trained_parameters": sum(size for size, trained in sizes if trained),
        "frozen_parameters": sum(size for size, trained in sizes if not trained),
        "batch_norms_in_training_mode": sum(norm.training for norm in norms),
        "batch_norms_in_evaluation_mode": sum(not norm.training for norm in norms),
    }
