"""Which images retention is measured on, and by what: known before an image is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench.data.datasets import Labelled
from clbench.data.datasets.folders import IMAGENET_HINT, refuse_others
from clbench.data.images import FileImages
from clbench.data.timm_resize import TimmResize
from clbench.errors import ClbenchError
from clbench.measure.retention_data import ArrayImages, ClassImages, of_folder, of_set, trains_on
from clbench.measure.retention_head import head_rows, not_asked, own_labels
from clbench.measure.retention_texts import lacking_texts, refuse_other_towers, texts_of
from clbench.metrics.retained import ANYWHERE
from clbench.metrics.retained.base import FeatureMeasure, Measure
from clbench.metrics.retained.head import OriginalHead
from clbench.metrics.retained.zero_shot import ZeroShot
from clbench.models.heads import synsets
from clbench.recipe.recipe import Recipe
from clbench.recipe.retention import RetentionSet
from clbench.streams import DISK, Shelf

#: What needs no head, as it is written into a recipe.
HEADLESS = f"retention.measures: [{', '.join(ANYWHERE)}]"


@dataclass(frozen=True)
class PlannedSet:
    """Images, and what is measured on them.

    Attributes:
        name: of a set of the user's; empty: of what the network was pretrained for.
        files: the images, in files or in an array.
        labels: int64 (N,): which of the competing outputs of the head is right, beyond the last
            one for classes that it lacks; without a head, the classes' numbers.
        measures: of the features, by name.
        head: whether the original head is measured.
        rows: int64 (K,), its rows that compete; None: all.
        train: other images to learn the labels from, with these; None: half of the images.
        texts: float32 (K, D), of the classes by their numbers, then of others that compete; None:
            they are not asked for.
    """

    name: str
    files: FileImages | ArrayImages
    labels: Tensor
    measures: Mapping[str, FeatureMeasure]
    head: bool = False
    rows: Tensor | None = None
    train: tuple[FileImages | ArrayImages, Tensor] | None = None
    texts: Tensor | None = None

    @property
    def cached(self) -> str:
        """Under which name a run keeps the images."""
        return f"retention-{self.name}" if self.name else "imagenet-val"

    @property
    def cached_train(self) -> str:
        """Under which name it keeps those to learn the labels from."""
        return f"{self.cached}-train"

    def __len__(self) -> int:
        return len(self.files) + (len(self.train[0]) if self.train else 0)


@dataclass
class SetPlan:
    """What is measured, and why what could be is not.

    Attributes:
        sets: in the recipe's order.
        reasons: each a line.
    """

    sets: list[PlannedSet] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def size(self) -> int | None:
        """Side of the images of files, in pixels; None where all are arrays."""
        return next((s.files.size for s in self.sets if isinstance(s.files, FileImages)), None)


def plan_sets(
    recipe: Recipe, outputs: int, about: Mapping[str, Any], shelf: Shelf = DISK
) -> SetPlan:
    """What the recipe has measured on folders of images and on data sets.

    What a network was pretrained on in the run itself is the stream's, and not among it.

    Args:
        recipe: of the run.
        outputs: classes of the head that its weights come with; 0: they come without.
        about: the weights, as :func:`clbench.models.backbone.expected` has it.
        shelf: where data sets come from.

    Raises:
        ClbenchError: if the recipe names a folder or a measure that does not fit, or asks for
            images of a size that the network does not take.
    """
    return _Planner(recipe, outputs, about, shelf).plan()


class _Planner:
    """Makes a plan.

    Args:
        recipe: of the run.
        outputs: classes of the original head.
        about: the weights.
        shelf: where data sets come from.
    """

    def __init__(
        self, recipe: Recipe, outputs: int, about: Mapping[str, Any], shelf: Shelf
    ) -> None:
        self.recipe, self.outputs, self.about, self.shelf = recipe, outputs, about, shelf
        self.labels = own_labels(outputs, about)
        self.weights = f"model.weights = {recipe.model.weights!r}"
        self.reasons: list[str] = []

    def plan(self) -> SetPlan:
        """See :func:`plan_sets`."""
        rules = self.recipe.retention
        refuse_other_towers(rules, self.recipe.model, self.outputs)
        here = rules.data == "auto" and self.recipe.model.weights == "pretrain"
        if rules.train is not None and (here or rules.data == "none"):
            images = "those of the stream that it was pretrained on" if here else "none"
            raise ClbenchError(
                f"retention.train = {rules.train} would not be used: the images of retention are "
                f"{images}; leave it out, or give retention.data"
            )
        sets = [] if here or rules.data == "none" else [*self._main()]
        sets += [self._named(name, own) for name, own in rules.sets.items()]
        return SetPlan(sets, self.reasons)

    def _main(self) -> Iterator[PlannedSet]:
        rules = self.recipe.retention
        named, measures = rules.data != "auto", dict(rules.measures)
        root = Path(rules.data) if named else self.recipe.data_dir / "imagenet" / "val"
        imagenet = synsets(self.outputs) is not None
        if "head" in measures and not imagenet and not (named and self.labels):
            if named:
                raise ClbenchError(
                    f"retention.data = {root}, but {self.weights} have no head of the 1,000 "
                    f"ImageNet classes: set retention.data: none, or {HEADLESS}"
                )
            del measures["head"]
            way = "" if measures or self.recipe.model.weights == "none" else f"; say {HEADLESS}"
            self.reasons.append(
                f"retention is not measured by the original head: {self.weights} have none of the "
                f"1,000 ImageNet classes{way}"
            )
        if not measures:
            return
        if not named and not root.is_dir():
            self.reasons.append(f"retention is not measured: no ImageNet images in {root}/<wnid>/")
            return
        head = "head" in measures
        found = of_folder(root, rules.train, "retention", *[IMAGENET_HINT] * (head and imagenet))
        if head and imagenet:
            refuse_others(root, found.classes)
        elif head and (why := not_asked(found.classes, self.outputs, self.labels)):
            raise ClbenchError(f"retention.data: the folders in {root} {why}: say {HEADLESS}")
        made = self._planned("", "retention", found, measures, strict=named)
        if made.head or made.measures:
            yield made

    def _named(self, name: str, own: RetentionSet) -> PlannedSet:
        place = f"retention.sets.{name}"
        found = of_set(own, self.recipe, self.shelf, place)
        measures = dict(own.measures or self.recipe.retention.measures)
        if own.dataset and trains_on(self.recipe.stream, own.dataset):
            self.reasons.append(
                f"{place}: the stream trains on {own.dataset} too: what is measured there is "
                "learned, and not only kept"
            )
        if found.absent:  # what its classes are called is not known: its images are counted
            kept = {n: m for n, m in measures.items() if n not in ("head", "zero_shot")}
            return self._planned(name, place, found, kept, strict=True)
        why = not_asked(found.classes, self.outputs, self.labels)
        if self.labels is None and synsets(self.outputs) is None:
            why = f"{self.weights} have no head of the 1,000 ImageNet classes"
        elif why:
            why = f"{own.dataset or f'the folders in {own.data}'} {why}"
        if "head" in measures and why:
            if own.measures or len(measures) == 1:
                raise ClbenchError(f"{place}: {why}: say {HEADLESS.replace('retention', place)}")
            del measures["head"]
            self.reasons.append(f"{place} is not measured by the original head: {why}")
        zero, fewer = measures.get("zero_shot"), not own.measures and len(measures) > 1
        if isinstance(zero, ZeroShot) and fewer and (why := lacking_texts(zero, found.classes)):
            del measures["zero_shot"]
            self.reasons.append(f"{place} is not measured by zero_shot: {why}")
        return self._planned(name, place, found, measures, strict=True)

    def _planned(
        self,
        name: str,
        place: str,
        found: ClassImages,
        measures: Mapping[str, Measure],
        strict: bool,
    ) -> PlannedSet:
        """A set; ``strict``: what cannot be measured is refused, not left out."""
        kept = {n: m for n, m in measures.items() if isinstance(m, FeatureMeasure)}
        learning = [n for n, m in kept.items() if m.labels]
        if learning and found.learn is None:
            learning = self._halves(place, found.asked.labels, learning, strict)
            kept = {n: m for n, m in kept.items() if n in learning or not m.labels}
        elif found.trained is not None and not learning:
            self.reasons.append(
                f"{place}.train = {found.trained} is not used: none of its measures learns labels"
            )
        output_of = torch.arange(len(found.classes))
        head, rows = measures.get("head"), None
        if isinstance(head, OriginalHead):
            output_of, rows, lacking = head_rows(head, found.classes, self.outputs, self.labels)
            self.reasons += [f"{place}: {lacking}"] * bool(lacking)
        texts = self._texts(place, kept.get("zero_shot"), found.classes)
        others = None
        if found.learn is not None and learning:
            theirs = found.learn()
            others = self._files(theirs), output_of[torch.from_numpy(theirs.labels)]
        halves = int((-(-np.bincount(found.asked.labels) // 2)).sum())
        references = halves if others is None else len(others[1])
        few = {n: m.lacks(len(found.asked.labels), references) for n, m in kept.items()}
        for measure, why in few.items():
            if why and strict:
                raise ClbenchError(f"{place}: {why}")
            self.reasons += [f"{place} is not measured by {measure}: {why}"] * bool(why)
        kept = {n: m for n, m in kept.items() if not few[n]}
        labels = output_of[torch.from_numpy(found.asked.labels)]
        files, with_head = self._files(found.asked), head is not None
        return PlannedSet(name, files, labels, kept, with_head, rows, others, texts)

    def _files(self, found: Labelled) -> FileImages | ArrayImages:
        size, workers = self.recipe.images.size, self.recipe.images.workers
        if isinstance(found.images, np.ndarray):  # as a stream keeps them
            return ArrayImages(found.images, self.recipe.images.side(found, native=True))
        if self.recipe.retention.transform == "stored":
            stored = round(size / float(self.about.get("crop_pct") or 1.0))
            return FileImages(found.images, stored, "crop", workers=workers)
        resize = TimmResize.of(self.about)
        if self.about.get("fixed_input_size") and resize.size != size:
            raise ClbenchError(
                f"retention.transform = 'timm' has images of {resize.size} pixels, but this "
                f"network is made for images.size = {size} and takes no other: set images.size: "
                f"{resize.size}, or retention.transform: stored"
            )
        return FileImages(found.images, resize.size, resize, workers=workers)

    def _texts(self, place: str, zero: Measure | None, classes: tuple[str, ...]) -> Tensor | None:
        if not isinstance(zero, ZeroShot):
            return None
        if lacking := lacking_texts(zero, classes):
            raise ClbenchError(
                f"{place}.measures: zero_shot: {lacking}: make a file of all classes with clbench "
                "embed, or leave zero_shot out"
            )
        return texts_of(zero, classes, self.outputs)

    def _halves(
        self, place: str, labels: np.ndarray, learning: list[str], strict: bool
    ) -> list[str]:
        """What of the measures can learn from half of the images."""
        counts = np.bincount(labels)
        alone = int((counts < 2).sum())
        if alone < len(counts):
            if alone:
                classes = f"{alone:,} class{'es' * (alone > 1)}"
                self.reasons.append(
                    f"{place}: {', '.join(learning)} do not ask about {classes} of one image, from "
                    "which they learn"
                )
            return learning
        why = (
            f"{place} is not measured by {', '.join(learning)}: they learn from every second image "
            f"of a class, and no class has two: give {place}.train"
        )
        if strict:
            raise ClbenchError(f"{why}, or leave them out of the measures")
        self.reasons.append(why)
        return []
