"""What a backbone is like before it is built: its class, and its layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

import timm
import torch
from torch import nn

from clbench.models import tiny  # noqa: F401  (registers tiny_cnn and tiny_vit with timm)
from clbench.models.settings import ModelConfig


def kind_of(config: ModelConfig) -> type[nn.Module] | None:
    """Which class a backbone is of, built without memory; None if it cannot be built so."""
    model = skeleton(config)
    return None if model is None else type(model)


def skeleton(config: ModelConfig) -> nn.Module | None:
    """A backbone without memory for its weights; None if it cannot be built so."""
    if not timm.is_model(config.backbone):
        return None
    return _bare(timm.model_entrypoint(config.backbone), json.dumps(config.options, default=str))


@cache  # a recipe is read once for every task with settings of its own
def _bare(make: Callable[..., nn.Module], options: str) -> nn.Module | None:
    with torch.random.fork_rng([]), torch.device("meta"):
        try:
            return make(pretrained=False, **json.loads(options))
        except Exception:  # whatever is wrong with it is told when it is built
            return None
