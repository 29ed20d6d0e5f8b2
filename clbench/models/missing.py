"""Weights that are asked for and are not here."""

from __future__ import annotations

from clbench.models import backbone, hub
from clbench.models.settings import ModelConfig
from clbench.streams.outline import Missing


def missing_weights(model: ModelConfig) -> Missing | None:
    """The pretrained weights that are asked for, if they are not on this machine.

    Raises:
        ClbenchError: if there are no such weights or backbone at all.
    """
    try:
        backbone.check(model)
    except backbone.NotHere as error:
        return Missing(model.weights, str(error), False)
    if model.weights in ("none", "pretrain", "packaged") or backbone.is_file(model):
        return None
    tag = backbone.full_tag(model)
    if not (place := hub.source(tag)):
        return None
    how = "without a network, download them elsewhere and give the file as model.weights"
    return Missing(tag, f"from {place}; {how}", True)
