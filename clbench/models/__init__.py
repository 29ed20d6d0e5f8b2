"""Backbones, heads, and the weights they start from."""

from clbench.models.backbone import (
    TRIED,
    ModelConfig,
    Pretrained,
    features,
    head_names,
    prefers_channels_last,
)

__all__ = [
    "TRIED",
    "ModelConfig",
    "Pretrained",
    "features",
    "head_names",
    "prefers_channels_last",
]
