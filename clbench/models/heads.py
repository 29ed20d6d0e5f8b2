"""What the outputs of the head that weights come with stand for."""

from __future__ import annotations

from functools import cache

import timm
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

from clbench.models.backbone import full_tag, is_file
from clbench.models.settings import ModelConfig
from clbench.text.hub_id import is_hub_id

#: In timm's names of the image towers that were trained with texts.
TOWERS = ("clip", "pe_core")


@cache
def synsets(outputs: int) -> tuple[str, ...] | None:
    """The WordNet ids of the classes of a head with so many, by timm's lists; None: it has none.

    >>> len(synsets(21843)), synsets(10)
    (21843, None)
    """
    subset = infer_imagenet_subset({"num_classes": outputs})
    return None if subset is None else tuple(ImageNetInfo(subset).label_names())


def projects(model: ModelConfig, outputs: int | None = None) -> bool:
    """Whether weights are an image tower of CLIP whose head is the projection to the texts.

    timm keeps the projection in the place of a classifier; where a tower was tuned to classify,
    as those of tags with ``ft_in1k`` were, a classifier has taken its place.

    Args:
        model: says which weights.
        outputs: of the head that they come with; 0: they come without; None: as timm has it of a
            tag, and as the name of the backbone promises of a file or a repository.
    """
    if model.weights in ("none", "pretrain", "packaged") or outputs == 0:
        return False
    filed = is_file(model) or is_hub_id(model.weights)
    name = model.backbone if filed else full_tag(model)
    if outputs is None and not filed:
        known = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
        outputs = known.num_classes if known is not None else None
        if outputs == 0:
            return False
    told = outputs is None or synsets(outputs) is None
    return told and any(word in name for word in TOWERS)
