"""Weights that are asked for and are not here."""

from __future__ import annotations

from huggingface_hub import constants

from clbench.models import backbone, hub, repository
from clbench.models.settings import ModelConfig
from clbench.streams.outline import Missing
from clbench.text.hub_id import hub_id, is_hub_id


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
    how = "without a network, download them elsewhere and give the file as model.weights"
    if is_hub_id(model.weights):
        where = f"{constants.ENDPOINT}/{hub_id(model.weights).repository}"
        return (
            None
            if repository.cached(model)
            else Missing(model.weights, f"from {where}; {how}", True)
        )
    tag = backbone.full_tag(model)
    if not (place := hub.source(tag)):
        return None
    return Missing(tag, f"from {place}; {how}", True)
