"""Retention: how well the trunk still does what it was pretrained for, with its original head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.cache import cache
from clbench.data.datasets import imagenet_validation
from clbench.data.images import FileImages
from clbench.data.timm_resize import TimmResize
from clbench.data.transforms import Augment, Transform
from clbench.errors import ClbenchError
from clbench.measure.evaluate import Evaluator
from clbench.models import Pretrained
from clbench.recipe.recipe import Recipe
from clbench.streams import Stream
from clbench.weights import State, snapshot

#: Names the cache of the images.
CACHE = "imagenet-val"


@dataclass(frozen=True)
class RetentionTest:
    """Measures top-1 and top-5 accuracy on the pretraining task.

    Attributes:
        split: test images with labels of the original head.
        head: the original head.
        evaluator: how networks are evaluated.
        batch_norm: the pretrained BatchNorm tensors to put back while measuring; empty to measure
            the network as it is.
    """

    split: Split
    head: nn.Module
    evaluator: Evaluator
    batch_norm: State

    @classmethod
    def make(
        cls,
        recipe: Recipe,
        stream: Stream,
        pretrained: Pretrained,
        evaluator: Evaluator,
        device: torch.device,
    ) -> RetentionTest | None:
        """The test that the recipe asks for, or None where there is nothing to measure.

        Raises:
            ClbenchError: if the recipe names a folder that does not fit.
        """
        rules = recipe.retention
        if rules.data == "none":
            return None
        batch_norm = _batch_norm(pretrained.model) if rules.batch_norm == "pretrained" else {}
        if rules.data == "auto" and recipe.model.weights == "pretrain":
            assert stream.pretraining is not None
            assert pretrained.head is not None
            return cls(stream.pretraining[1], pretrained.head.to(device), evaluator, batch_norm)
        outputs = 0 if pretrained.head is None else pretrained.head.out_features
        about: dict[str, Any] = dict(pretrained.model.pretrained_cfg)  # type: ignore[arg-type]
        found = imagenet(recipe, outputs, about | {"crop_pct": pretrained.crop_pct})
        if isinstance(found, str):
            return None
        files, labels = found
        assert pretrained.head is not None
        if isinstance(files.fit, TimmResize):  # nothing is cut off such images
            plain = Transform(files.size, pretrained.mean, pretrained.std, Augment())
            evaluator = replace(evaluator, reader=replace(evaluator.reader, transform=plain))
        images = cache(files, recipe.data_dir / "cache", CACHE, recipe.images.workers)
        split = Split(images, torch.arange(len(files)), labels)
        return cls(split, pretrained.head.to(device), evaluator, batch_norm)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """``top1`` and ``top5`` of a network, fractions in 0…1."""
        if not self.batch_norm:
            return self.evaluator.top_k(model, self.head, self.split)
        device = next(model.parameters()).device
        own = {name: model.state_dict()[name].clone() for name in self.batch_norm}
        model.load_state_dict({k: v.to(device) for k, v in self.batch_norm.items()}, strict=False)
        try:
            return self.evaluator.top_k(model, self.head, self.split)
        finally:
            model.load_state_dict(own, strict=False)


def imagenet(
    recipe: Recipe, outputs: int, about: Mapping[str, Any]
) -> tuple[FileImages, Tensor] | str:
    """The ImageNet images that retention is measured on and their labels, or why it is on none.

    A run keeps them under the name :data:`CACHE`.

    Args:
        recipe: of the run.
        outputs: classes of the head that its weights come with; 0: they come without.
        about: the weights, as :func:`clbench.models.backbone.expected` has it.

    Raises:
        ClbenchError: if the recipe names a folder that does not fit, or asks for images of a size
            that the network does not take.
    """
    named, weights = recipe.retention.data != "auto", recipe.model.weights
    root = Path(recipe.retention.data) if named else recipe.data_dir / "imagenet" / "val"
    if outputs != 1000 and named:
        raise ClbenchError(
            f"retention.data = {root}, but model.weights = {weights!r} have no head of the 1,000 "
            "ImageNet classes: set retention.data: none"
        )
    if outputs != 1000:
        return f"model.weights = {weights} has no head of the 1,000 ImageNet classes"
    if not named and not root.is_dir():
        return f"no ImageNet images in {root}/<wnid>/"
    labelled = imagenet_validation(root)
    assert isinstance(labelled.images, tuple)
    size, workers = recipe.images.size, recipe.images.workers
    paths, labels = labelled.images, torch.from_numpy(labelled.labels)
    if recipe.retention.transform == "stored":
        stored = round(size / float(about.get("crop_pct") or 1.0))
        return FileImages(paths, stored, "crop", workers=workers), labels
    resize = TimmResize.of(about)
    if about.get("fixed_input_size") and resize.size != size:
        raise ClbenchError(
            f"retention.transform = 'timm' has images of {resize.size} pixels, but this network is "
            f"made for images.size = {size} and takes no other: set images.size: {resize.size}, "
            "or retention.transform: stored"
        )
    return FileImages(paths, resize.size, resize, workers=workers), labels


def _batch_norm(model: nn.Module) -> State:
    prefixes = tuple(
        f"{name}."
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    )
    return {k: v for k, v in snapshot(model, "cpu").items() if prefixes and k.startswith(prefixes)}
