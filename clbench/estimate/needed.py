"""What a run needs: its stream in outline, weights, and what of them is not on this machine.

:func:`outline` builds a recipe's stream as a run would, from a shelf of its own: images are random
pixels of the right size, and data sets that are not there have stand-ins of their known size.
Nothing is fetched, and no image is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from torch import Tensor

from clbench.data import datasets
from clbench.data.cache import find_cache
from clbench.data.datasets import DataSet, Labelled
from clbench.data.datasets.sizes import SIZES, stand_in
from clbench.data.images import FileImages, Images, TensorImages, from_array
from clbench.errors import ClbenchError
from clbench.machine import cores
from clbench.measure.retention_sets import plan_sets
from clbench.models import backbone, hub
from clbench.models.pretraining import pretrained_path
from clbench.recipe.recipe import Recipe
from clbench.runner.network import pretraining_transform
from clbench.seeding import generator
from clbench.streams import Shelf, Storage, Stream
from clbench.streams.storage import Loader

#: Random images are drawn from a pool of so many.
POOL = 64
#: Seconds that a core takes to decode a photograph which is not there to be measured.
PHOTOGRAPH = 0.005


class Missing(NamedTuple):
    """Something a run needs that is not on this machine."""

    what: str  # its name, such as ``cifar10``
    how: str  # where it comes from and where it belongs, in a sentence
    fetched: bool  # whether the run fetches it itself, given a network
    disk: int = 0  # bytes it will take


@dataclass
class Needed:
    """What keeping the images of a stream takes."""

    seconds: float = 0.0  # to prepare them, once
    memory: int = 0  # bytes of those that lie there
    cache: int = 0  # bytes of image caches still to be written
    missing: list[Missing] = field(default_factory=list)  # data sets

    def load(
        self, fetches: bool, name: str, root: Path, _: bool, loader: Loader | None = None
    ) -> DataSet:
        """A data set or its stand-in; nothing is fetched, but a run may where it ``fetches``.

        Raises:
            ClbenchError: if it is missing and of no known size.
        """
        try:
            return (loader or datasets.load)(name, root, False)
        except ClbenchError as error:
            fetched = fetches and "stream.download" in str(error)
            if name not in SIZES and fetched:
                raise ClbenchError(
                    f"{name} is not in {root} yet and of no known size: a run would fetch it, "
                    "which a dry run does not: start the run, or plan it once its data is there"
                ) from error
            if name not in SIZES:
                raise
            self.missing.append(Missing(name, str(error), fetched, SIZES[name].disk))
            return stand_in(name)

    def keep(
        self, storage: Storage, labelled: Labelled, side: int, name: str, data_dir: Path
    ) -> Images:
        """Take note of what :meth:`Storage.open` would do; random images."""
        images, count = labelled.images, len(labelled.labels)
        if isinstance(images, np.ndarray):
            channels = 1 if images.ndim == 3 else 3
            if images.shape[1:3] != (side, side):
                self.seconds += _seconds(lambda: from_array(images[:32], side)) * count / 32
            self.memory += count * channels * side * side
            return Pixels(count, channels, side, slow=False)
        files = storage.files(images, side)
        if storage.keep == "files":
            there = files if images[0].exists() else None
            return Pixels(count, 3, side, slow=True, files=there)
        self.decode(files, name, data_dir)
        self.memory += count * 3 * side**2 * (storage.keep == "memory")
        return Pixels(count, 3, side, slow=storage.keep != "memory")

    def decode(self, files: FileImages, name: str, data_dir: Path) -> None:
        """Take note of what :func:`clbench.data.cache.cache` would do with files."""
        there, count = files.paths[0].exists(), len(files)
        if there and find_cache(files, data_dir / "cache", name) is not None:
            return
        few, threads = torch.arange(min(8, count)), max(1, min(files.workers, cores()))
        each = _seconds(lambda: files.take(few)) / len(few) if there else PHOTOGRAPH
        self.seconds += each / threads * count
        self.cache += count * 3 * files.size**2


class Pixels(Images):
    """N images that are given out from a small pool of random ones.

    Args:
        count: N.
        channels: 1 or 3.
        side: in pixels.
        slow: as in :class:`~clbench.data.images.Images`.
        files: what is taken in their place, where the run decodes its images again and again.
    """

    def __init__(
        self, count: int, channels: int, side: int, slow: bool, files: FileImages | None = None
    ) -> None:
        self.count, self.slow = count, slow
        shape = (min(POOL, count), channels, side, side)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0))
        self._pool: Images = files or TensorImages(pixels)

    def __len__(self) -> int:
        return self.count

    def take(self, index: Tensor) -> Tensor:
        """See :meth:`Images.take`."""
        return self._pool.take(index % len(self._pool))

    def fingerprint(self) -> str:
        """Nothing identifies these images."""
        return "outline"

    def move(self, device: torch.device) -> None:
        """Images in memory move, as those of a run do."""
        if not self.slow:
            self._pool.move(device)


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


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def missing_weights(recipe: Recipe) -> Missing | None:
    """The recipe's pretrained weights, if they are not on this machine.

    Raises:
        ClbenchError: if there are no such weights or backbone at all.
    """
    model = recipe.model
    try:
        backbone.check(model)
    except backbone.NotHere as error:
        return Missing(model.weights, str(error), False)
    if model.weights in ("none", "pretrain", "packaged") or backbone.is_file(model):
        return None
    tag = backbone.full_tag(model)
    if not (place := hub.source(tag)):
        return None
    how = "without a network, download them elsewhere and give the file as model.weights"
    return Missing(tag, f"from {place}; {how}", True)


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


class Retained(NamedTuple):
    """What retention will be measured on: how many images, of how many times the run's pixels."""

    images: int = 0
    larger: float = 1.0
    why: tuple[str, ...] = ()  # what could be measured is not


def retained(recipe: Recipe, stream: Stream, needed: Needed, weights: Missing | None) -> Retained:
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
        return Retained()
    if weights and not weights.fetched:
        return Retained(why=("retention is not counted, as its weights are not here",))
    images, larger, planned = 0, 1.0, plan_sets(recipe, *_head(recipe))
    if rules.data == "auto" and recipe.model.weights == "pretrain" and pretraining:
        images = len(pretraining[1])
    for one in planned.sets:
        images += len(one)
        needed.decode(one.files, one.cached, recipe.data_dir)
        if one.train:
            needed.decode(one.train[0], one.cached_train, recipe.data_dir)
        if rules.transform == "timm":
            larger = (one.files.size / recipe.images.size) ** 2
    return Retained(images, larger, tuple(planned.reasons))


def _head(recipe: Recipe) -> tuple[int, Mapping[str, Any]]:
    """Classes of the weights' own head (0: none), and what they expect of an image."""
    model = recipe.model
    if model.weights in ("none", "pretrain"):
        return 0, {}
    if backbone.is_file(model):
        found = backbone.load(model, 1, recipe.images.size)
        about: Any = found.model.pretrained_cfg
        return found.head.out_features if found.head else 0, about
    tag = model.backbone if model.weights == "packaged" else backbone.full_tag(model)
    known: Any = timm.models.get_pretrained_cfg(tag, allow_unregistered=True)
    return known.num_classes, backbone.expected(model, known.to_dict())
