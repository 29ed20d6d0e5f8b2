"""Two small backbones for offline work, registered with timm under their own names.

``tiny_cnn`` has group instead of batch normalisation, so that it computes the same on one process
and on several; ``tiny_vit`` is timm's own VisionTransformer at a small size.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch.nn.functional as F
from timm.models import load_pretrained, register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

_Tiny = TypeVar("_Tiny", bound=nn.Module)


class TinyCNN(nn.Module):
    """Three 3 × 3 convolutions with group normalisation, then a linear classifier.

    It has the methods timm's models have, as far as clbench calls them.

    Args:
        num_classes: rows of the classifier; 0 for none.
        in_chans: input channels.
        width: channels after the first convolution; doubled once.
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 3, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, width, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(4, width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, stride=2, bias=False)
        self.norm2 = nn.GroupNorm(8, 2 * width)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, stride=2, bias=False)
        self.norm3 = nn.GroupNorm(8, 2 * width)
        self.num_features = 2 * width
        self.fc: nn.Module
        self.reset_classifier(num_classes)
        self.pretrained_cfg: dict[str, object] = {
            "classifier": "fc",
            "input_size": (in_chans, 32, 32),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "crop_pct": 1.0,
        }
        self.default_cfg = self.pretrained_cfg

    def get_classifier(self) -> nn.Module:
        """The linear layer."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new linear layer of ``num_classes`` rows in place."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, images_BCHW: Tensor) -> Tensor:
        """Feature maps (B, 2·width, H/4, W/4)."""
        x = F.relu(self.norm1(self.conv1(images_BCHW)))
        x = F.relu(self.norm2(self.conv2(x)))
        return F.relu(self.norm3(self.conv3(x)))

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooled features (B, 2·width) or, from them, logits (B, num_classes)."""
        features = maps.mean((2, 3))
        return features if pre_logits else self.fc(features)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits (B, num_classes)."""
        return self.forward_head(self.forward_features(images_BCHW))


@register_model
def tiny_cnn(pretrained: bool = False, **kwargs: Any) -> TinyCNN:
    """:class:`TinyCNN` by name; weights are only in repositories that somebody pushed to."""
    return _filled(TinyCNN(**_known(kwargs)), pretrained, kwargs)


@register_model
def tiny_vit(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """A VisionTransformer of 4 blocks, width 64, on 32 × 32 images in 4 × 4 patches."""
    size = {"img_size": 32, "patch_size": 4, "embed_dim": 64, "depth": 4, "num_heads": 4}
    model = VisionTransformer(**(size | _known(kwargs)))
    model.pretrained_cfg = model.default_cfg = {  # type: ignore[assignment]
        "classifier": "head",
        "input_size": (3, 32, 32),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "crop_pct": 1.0,
    }
    return _filled(model, pretrained, kwargs)


def _filled(model: _Tiny, pretrained: bool, kwargs: dict[str, Any]) -> _Tiny:
    """The model, with the weights of the repository or folder that timm was asked for."""
    about = kwargs.get("pretrained_cfg")
    if isinstance(about, dict) and about.get("source"):
        model.pretrained_cfg = model.default_cfg = model.pretrained_cfg | about  # type: ignore
    elif pretrained:
        raise ValueError("there are no published weights for clbench's tiny backbones")
    if pretrained:
        load_pretrained(model, model.pretrained_cfg, model.num_classes)  # type: ignore[arg-type]
    return model


def _known(kwargs: dict[str, Any]) -> dict[str, Any]:
    # timm passes entries of its own along with the caller's.
    own = ("pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args", "cache_dir")
    known = {name: value for name, value in kwargs.items() if name not in own}
    about = kwargs.get("pretrained_cfg")
    rows = about.get("num_classes") if isinstance(about, dict) else None
    return known if rows is None else {"num_classes": rows} | known
