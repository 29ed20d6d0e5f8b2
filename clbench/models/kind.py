"""A backbone without memory: which class it is of, and which layers it has, before it is built."""

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
    sketch = sketched(config)
    return None if sketch is None else type(sketch)


def sketched(config: ModelConfig) -> nn.Module | None:
    """A backbone without memory, with a head of two rows; None if it cannot be built so.

    It is one for all who ask: nobody may change it.
    """
    if not timm.is_model(config.backbone):
        return None
    return _sketch(timm.model_entrypoint(config.backbone), json.dumps(config.options, default=str))


@cache  # a recipe is read once for every task with settings of its own
def _sketch(make: Callable[..., nn.Module], options: str) -> nn.Module | None:
    with torch.random.fork_rng([]), torch.device("meta"):
        try:
            return make(pretrained=False, **({"num_classes": 2} | json.loads(options)))
        except Exception:  # whatever is wrong with it is told when it is built
            return None
