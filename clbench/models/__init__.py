"""Backbones, heads, and the weights they start from."""

from clbench.models.backbone import (
    TRIED,
    Pretrained,
    features,
    head_names,
    prefers_channels_last,
)
from clbench.models.settings import ModelConfig

__all__ = [
    "TRIED",
    "ModelConfig",
    "Pretrained",
    "features",
    "head_names",
    "prefers_channels_last",
]
