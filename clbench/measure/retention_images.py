"""The images that retention is measured on, decoded, with the rows of the head that compete."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.cache import cache
from clbench.data.images import FileImages
from clbench.measure.retention_data import ArrayImages
from clbench.measure.retention_sets import PlannedSet
from clbench.metrics.retained.base import FeatureMeasure, Look
from clbench.recipe.recipe import Recipe


@dataclass(frozen=True)
class RetentionImages:
    """A set of images, and what is measured on them.

    Attributes:
        name: of a set of the user's; empty: of what the network was pretrained for.
        split: the images; labels are outputs of the head, or beyond its last.
        head: the original head, or some of its rows; None: it is not measured.
        measures: of the features, by name.
        train: other images to learn the labels from; None: every second one of each class, and the
            others are asked about.
        texts: float32 (K, D), those of the labels first, if they are asked for.
        projection: from features (N, F) to the space of the texts, with these.
    """

    name: str
    split: Split
    head: nn.Module | None
    measures: Mapping[str, FeatureMeasure]
    train: Split | None = None
    texts: Tensor | None = None
    projection: nn.Module | None = None

    @property
    def features(self) -> bool:
        """Whether features are asked for."""
        return bool(self.measures)

    def called(self, measure: str) -> str:
        """What a measure is called in a record."""
        return f"{self.name}/{measure}" if self.name else measure

    def look(self, features_NF: Tensor, train_MF: Tensor | None, before_NF: Tensor | None) -> Look:
        """What the measures are given.

        Args:
            features_NF: of the images.
            train_MF: of those to learn from, where they are others.
            before_NF: what the pretrained network saw, where that is asked for.
        """
        device = features_NF.device
        labels = self.split.labels.to(device)
        texts = embedded = None
        if self.texts is not None and self.projection is not None:
            texts, embedded = self.texts.to(device), self.projection(features_NF)
        rest = (before_NF, labels, embedded, texts)
        if train_MF is not None and self.train is not None:
            theirs = self.train.labels.to(device)
            return Look(features_NF, features_NF, labels, train_MF, theirs, *rest)
        learned = every_second(self.split.labels).to(device)
        parts = (features_NF[~learned], labels[~learned], features_NF[learned], labels[learned])
        return Look(features_NF, *parts, *rest)


def every_second(labels_N: Tensor) -> Tensor:
    """Mark every second image of each class, in the given order, from the first on: bool (N,).

    >>> every_second(torch.tensor([0, 0, 1, 0, 1])).tolist()
    [True, False, True, True, False]
    """
    marked = torch.zeros(len(labels_N), dtype=torch.bool)
    for label in labels_N.unique():
        marked[(labels_N == label).nonzero()[::2, 0]] = True
    return marked


def decoded(
    one: PlannedSet,
    recipe: Recipe,
    head: nn.Linear | None,
    device: torch.device,
) -> RetentionImages:
    """A planned set with its images decoded, and the rows of the head that compete."""

    def split(files: FileImages | ArrayImages, labels: Tensor, name: str) -> Split:
        if isinstance(files, ArrayImages):
            return Split(files.open(), torch.arange(len(files)), labels)
        images = cache(files, recipe.data_dir / "cache", name, recipe.images.workers)
        return Split(images, torch.arange(len(files)), labels)

    own = None
    if one.head:
        assert head is not None
        own = (head if one.rows is None else _some_rows(head, one.rows)).to(device)
    projection = None
    if one.texts is not None:
        assert head is not None
        projection = head.to(device)
    train = None if one.train is None else split(*one.train, one.cached_train)
    images = split(one.files, one.labels, one.cached)
    return RetentionImages(one.name, images, own, one.measures, train, one.texts, projection)


def _some_rows(head: nn.Linear, rows_K: Tensor) -> nn.Linear:
    """A head of some of another's outputs."""
    made = copy.deepcopy(head)
    made.weight = nn.Parameter(head.weight.detach()[rows_K])
    if head.bias is not None:
        made.bias = nn.Parameter(head.bias.detach()[rows_K])
    made.out_features = len(rows_K)
    return made
