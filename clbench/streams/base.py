"""What is learned, in which order: tasks, their splits, and one global label space."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from clbench.data.batches import Split
from clbench.data.datasets import DataSet, Labelled
from clbench.data.images import (
    CachedImages,
    FileImages,
    Fit,
    GuardedImages,
    Images,
    JoinedImages,
    TensorImages,
    cache,
    from_array,
)
from clbench.errors import ClbenchError


class Storage(BaseModel):
    """How images are kept between the data set and the network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(32, ge=4, le=1024, description="side of the network's input, in pixels")
    stored: int | None = Field(
        None,
        ge=4,
        le=2048,
        description="side of the stored images; default: arrays keep their own size (at most "
        "`size`), image files are stored at 8/7 of `size`",
    )
    fit: Fit = Field(
        "crop",
        description="crop: scale the shorter side, keep the centre square; "
        "squash: scale both sides",
    )
    keep: Literal["auto", "memory", "disk", "files"] = Field(
        "auto",
        description="auto: arrays in memory, image files in a cache on disk; memory; disk; "
        "files: decode in every epoch",
    )
    workers: int = Field(4, ge=0, description="threads that read ahead (not used in memory)")
    mean: tuple[float, float, float] | None = Field(
        None, description="per-channel mean, 0…1; default: the backbone's own"
    )
    std: tuple[float, float, float] | None = Field(
        None, description="per-channel standard deviation, 0…1; default: the backbone's own"
    )


@dataclass(frozen=True)
class Task:
    """One stage of a stream.

    Attributes:
        index: its row in the accuracy matrix, from 0.
        name: for people.
        classes: the global labels it is about.
        train, validation, test: its data. The validation part is held out of the training data.
    """

    index: int
    name: str
    classes: range
    train: Split
    validation: Split
    test: Split


@dataclass(frozen=True)
class Stream:
    """A built stream.

    Attributes:
        tasks: in the order they are learned.
        class_names: for each global label; global labels count the classes in stream order.
        train_images, test_images: the two sources all splits point into.
        allowed: bool (N,), which training images may be taken now.
        pretraining: training and test data of classes set apart for pretraining, labels 0…K-1.
        independent: whether every task starts from the pretrained weights.
        manifest: what went where; :attr:`manifest_hash` identifies it.
    """

    tasks: tuple[Task, ...]
    class_names: tuple[str, ...]
    train_images: Images
    test_images: Images
    allowed: Tensor
    pretraining: tuple[Split, Split] | None
    independent: bool
    manifest: dict[str, object]

    @property
    def manifest_hash(self) -> str:
        """SHA-256 of the manifest."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    @property
    def task_of_class(self) -> Tensor:
        """Task index of each global label, int64 (C,)."""
        owner = torch.zeros(len(self.class_names), dtype=torch.int64)
        for task in self.tasks:
            owner[task.classes.start : task.classes.stop] = task.index
        return owner

    def open(self, task: Task, past: bool) -> None:
        """Let training take the images of ``task``, and with ``past`` those of earlier tasks."""
        if not past:
            self.allowed.zero_()
        self.allowed[task.train.index] = True


class StreamConfig(BaseModel, ABC):
    """The part of a recipe that describes a stream; subclasses build it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    summary: ClassVar[str]

    name: str = Field(description="see `--list`")
    validation: float = Field(
        0.1, ge=0, lt=1, description="share of each class's training images held out, never trained"
    )
    download: bool = Field(True, description="fetch missing data where the data set allows it")

    @abstractmethod
    def build(self, data_dir: Path, storage: Storage) -> Stream:
        """Load the data and lay out the tasks.

        Raises:
            ClbenchError: if data is missing or does not fit the fields.
        """


@dataclass(frozen=True)
class Group:
    """The classes of one task before labels are global: of which data set, which labels."""

    name: str
    dataset: int
    labels: tuple[int, ...]


def assemble(
    config: StreamConfig,
    datasets: Sequence[DataSet],
    groups: Sequence[Group],
    data_dir: Path,
    storage: Storage,
    pretrain_classes: Sequence[int] = (),
    independent: bool = False,
) -> Stream:
    """A stream from data sets and the grouping of their classes into tasks.

    Args:
        config: names the stream and the validation share.
        datasets: one or more data sets; their images are joined.
        groups: the classes of each task, in order.
        data_dir: where the image cache lives.
        storage: how images are kept.
        pretrain_classes: labels of the first data set set apart for pretraining.
        independent: whether every task starts from the pretrained weights.

    Raises:
        ClbenchError: if an image cannot be read, or a class has too few images.
    """
    train_images = _joined([d.train for d in datasets], datasets, "train", data_dir, storage)
    test_images = _joined([d.test for d in datasets], datasets, "test", data_dir, storage)
    allowed = torch.zeros(len(train_images), dtype=torch.bool)
    guarded = GuardedImages(train_images, allowed)
    train_starts = np.cumsum([0, *(len(d.train.labels) for d in datasets)])
    test_starts = np.cumsum([0, *(len(d.test.labels) for d in datasets)])

    def select(images: Images, labelled: Labelled, start: int, label: int, as_: int) -> Split:
        index = torch.from_numpy(np.flatnonzero(labelled.labels == label)) + int(start)
        return Split(images, index, torch.full_like(index, as_))

    tasks, names, first = [], [], 0
    for number, group in enumerate(groups):
        data = datasets[group.dataset]
        train, held, test = [], [], []
        for offset, label in enumerate(group.labels):
            own = select(guarded, data.train, train_starts[group.dataset], label, first + offset)
            kept, out = hold_out(own, config.validation, label)
            if not len(kept):
                raise ClbenchError(
                    f"class {data.classes[label]!r} has no training images left "
                    f"(stream.validation = {config.validation})"
                )
            train.append(kept)
            held.append(Split(train_images, out.index, out.labels))
            test.append(
                select(test_images, data.test, test_starts[group.dataset], label, first + offset)
            )
            names.append(data.classes[label])
        classes = range(first, first + len(group.labels))
        first = classes.stop
        tasks.append(
            Task(
                number,
                group.name,
                classes,
                Split.joined(train),
                Split.joined(held),
                Split.joined(test),
            )
        )

    pretraining = None
    if pretrain_classes:
        data = datasets[0]
        pretraining = (
            Split.joined(
                [select(train_images, data.train, 0, c, i) for i, c in enumerate(pretrain_classes)]
            ),
            Split.joined(
                [select(test_images, data.test, 0, c, i) for i, c in enumerate(pretrain_classes)]
            ),
        )
    manifest: dict[str, object] = {
        "stream": config.name,
        "validation": config.validation,
        "train_images": train_images.fingerprint(),
        "test_images": test_images.fingerprint(),
        "pretrain_classes": [datasets[0].classes[c] for c in pretrain_classes],
        "tasks": [
            {
                "name": task.name,
                "classes": names[task.classes.start : task.classes.stop],
                "train": len(task.train),
                "test": len(task.test),
                "validation_images": task.validation.index.tolist(),
            }
            for task in tasks
        ],
    }
    return Stream(
        tuple(tasks),
        tuple(names),
        train_images,
        test_images,
        allowed,
        pretraining,
        independent,
        manifest,
    )


def hold_out(split: Split, share: float, label: int) -> tuple[Split, Split]:
    """Split one class's images into a kept and a held-out part.

    The draw depends on the class and its number of images alone, so that every run on a stream,
    with any seed and class order, holds out the same images.

    Args:
        split: the images of one class.
        share: how much to hold out, in [0, 1).
        label: the class's label in its data set.
    """
    order = torch.from_numpy(np.random.default_rng([label, len(split)]).permutation(len(split)))
    count = round(len(split) * share)
    out, kept = order[:count].sort().values, order[count:].sort().values
    return (
        Split(split.images, split.index[kept], split.labels[kept]),
        Split(split.images, split.index[out], split.labels[out]),
    )


def _joined(
    parts: Sequence[Labelled],
    datasets: Sequence[DataSet],
    part: str,
    data_dir: Path,
    storage: Storage,
) -> Images:
    alone = len(parts) == 1
    sources = [
        store(labelled, f"{data.name}-{part}", data_dir, storage, native=alone)
        for labelled, data in zip(parts, datasets, strict=True)
    ]
    return sources[0] if alone else JoinedImages(sources)


def store(
    labelled: Labelled, name: str, data_dir: Path, storage: Storage, native: bool = True
) -> Images:
    """Keep the images of a data set as the recipe says.

    Args:
        labelled: what the data set handed over.
        name: names the cache file.
        data_dir: the cache is ``data_dir/cache``.
        storage: the recipe's choice.
        native: whether an array may keep its own size; sources to be joined need one size.
    """
    size = storage.stored or storage.size
    if isinstance(labelled.images, np.ndarray):
        side = labelled.images.shape[1]
        if storage.stored is None and native and labelled.images.shape[1:3] == (side, side):
            size = min(side, storage.size)
        elif storage.stored is None:
            size = round(storage.size * 8 / 7)
        return from_array(labelled.images, size)
    files = FileImages(labelled.images, storage.stored or round(size * 8 / 7), storage.fit)
    if storage.keep == "files":
        return files
    cached: CachedImages = cache(files, data_dir / "cache", name, storage.workers)
    if storage.keep == "memory":
        return TensorImages(torch.from_numpy(np.array(cached.array)))
    return cached
