"""What a run needs: its stream in outline, pretraining, and images for retention."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import timm

from clbench.measure.retention_data import take_note
from clbench.measure.retention_sets import plan_sets
from clbench.models import backbone, repository
from clbench.models.pretraining import pretrained_path
from clbench.recipe.recipe import Recipe
from clbench.runner.network import pretraining_transform
from clbench.streams import Shelf, Stream
from clbench.streams.outline import Missing, Needed
from clbench.text.hub_id import is_hub_id


def outline(recipe: Recipe) -> tuple[Stream, Needed]:
    """The stream of a recipe in outline; nothing is fetched, and no cache is written.

    Raises:
        ClbenchError: if the stream is refused, or its own images (of no known size) are missing.
    """
    began, needed = time.perf_counter(), Needed()
    config = recipe.stream.model_copy(update={"download": False})
    shelf = Shelf(partial(needed.load, recipe.stream.download), needed.keep)
    stream = recipe.model_copy(update={"stream": config}).build_stream(shelf)
    needed.seconds += time.perf_counter() - began
    return stream, needed


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


class RetentionNeed(NamedTuple):
    """What retention will be measured on: how many images, of how many times the run's pixels."""

    images: int = 0
    larger: float = 1.0
    why: tuple[str, ...] = ()  # what could be measured is not


def retained(
    recipe: Recipe, stream: Stream, needed: Needed, weights: Missing | None
) -> RetentionNeed:
    """What retention will be measured on; what keeping the images takes is added to ``needed``.

    Args:
        recipe: of the run.
        stream: its own, in outline.
        needed: what the stream's images take.
        weights: that are missing.

    Raises:
        ClbenchError: for what a run would refuse.
    """
    rules, pretraining = recipe.retention, stream.pretraining
    if rules.off:
        return RetentionNeed()
    if weights and (not weights.fetched or is_hub_id(recipe.model.weights)):
        return RetentionNeed(why=("retention is not counted, as its weights are not here",))
    shelf = Shelf(partial(needed.load, recipe.stream.download), needed.keep)
    images, larger, planned = 0, 1.0, plan_sets(recipe, *_head(recipe), shelf)
    if rules.data == "auto" and recipe.model.weights == "pretrain" and pretraining:
        images = len(pretraining[1])
    for one in planned.sets:
        images += len(one)
        take_note(one.files, one.cached, recipe, needed)
        if one.train:
            take_note(one.train[0], one.cached_train, recipe, needed)
    if rules.transform == "timm" and planned.size:
        larger = (planned.size / recipe.images.size) ** 2
    return RetentionNeed(images, larger, tuple(planned.reasons))


def _head(recipe: Recipe) -> tuple[int, Mapping[str, Any]]:
    """Classes of the weights' own head (0: none), and what they expect of an image."""
    model = recipe.model
    if model.weights in ("none", "pretrain"):
        return 0, {}
    if is_hub_id(model.weights):
        said = repository.about(model)
        return said.num_classes, said.expected
    if backbone.is_file(model):
        found = backbone.load(model, 1, recipe.images.size)
        about: Any = found.model.pretrained_cfg
        return found.head.out_features if found.head else 0, about
    tag = model.backbone if model.weights == "packaged" else backbone.full_tag(model)
    known: Any = timm.models.get_pretrained_cfg(tag, allow_unregistered=True)
    return known.num_classes, backbone.expected(model, known.to_dict())
