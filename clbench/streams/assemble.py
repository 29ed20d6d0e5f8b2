"""From data sets and a grouping of their classes to a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clbench.data.batches import Split
from clbench.data.datasets import DataSet, Labelled
from clbench.data.images import GuardedImages, Images, JoinedImages
from clbench.errors import ClbenchError
from clbench.streams.base import Group, Storage, Stream, StreamConfig, Task

#: Of the manifest. Since version 2, the fingerprints of images are those of their contents.
MANIFEST = 2


def assemble(
    config: StreamConfig,
    datasets: Sequence[DataSet],
    groups: Sequence[Group],
    data_dir: Path,
    storage: Storage,
    pretrain_classes: Sequence[int] = (),
    independent: bool = False,
    own: Mapping[str, Storage] | None = None,
) -> Stream:
    """Lay out the tasks.

    Args:
        config: names the stream, the validation share and limits on the number of images.
        datasets: one or more data sets; their images are joined.
        groups: the classes of each task, in order.
        data_dir: where the image cache lives.
        storage: how images are kept.
        pretrain_classes: labels of the first data set set apart for pretraining.
        independent: whether every task starts from the pretrained weights.
        own: storage of single data sets, by name. Their images may differ in size, so that no
            batch can mix them.

    Raises:
        ClbenchError: if an image cannot be read, or a class has too few images.
    """
    storages = [(own or {}).get(data.name, storage) for data in datasets]
    train = _Part([d.train for d in datasets], datasets, "train", data_dir, storages)
    test = _Part([d.test for d in datasets], datasets, "test", data_dir, storages)
    allowed = torch.zeros(len(train.images), dtype=torch.bool)
    guarded = GuardedImages(train.images, allowed)
    tasks: list[Task] = []
    names: list[str] = []
    for number, group in enumerate(groups):
        parts: tuple[list[Split], list[Split], list[Split]] = ([], [], [])
        first = len(names)
        for label in group.labels:
            name, new = datasets[group.dataset].classes[label], len(names)
            mine = train.of_class(group.dataset, label, config.train_per_class)
            kept, out = hold_out(mine, config.validation, label)
            tested = test.of_class(group.dataset, label, config.test_per_class)
            if not len(kept) or not len(tested):
                lack = "test images" if len(kept) else "training images left"
                raise ClbenchError(
                    f"class {name!r} has no {lack} (stream.validation = {config.validation})"
                )
            parts[0].append(_labelled(guarded, kept, new))
            parts[1].append(_labelled(train.images, out, new))
            parts[2].append(_labelled(test.images, tested, new))
            names.append(name)
        splits = [Split.joined(part) for part in parts]
        tasks.append(Task(number, group.name, range(first, len(names)), *splits))
    return Stream(
        tasks=tuple(tasks),
        class_names=tuple(names),
        train_images=train.images,
        test_images=test.images,
        allowed=allowed,
        pretraining=_apart(train, test, pretrain_classes),
        independent=independent,
        manifest={
            "version": MANIFEST,
            "stream": config.name,
            "validation": config.validation,
            "train_images": train.images.fingerprint(),
            "test_images": test.images.fingerprint(),
            "pretrain_classes": [datasets[0].classes[label] for label in pretrain_classes],
            "tasks": [_entry(task, names) for task in tasks],
        },
    )


def hold_out(index: Tensor, share: float, label: int) -> tuple[Tensor, Tensor]:
    """Split one class's images into a kept and a held-out part, both ascending.

    The draw depends on the class and its number of images alone, so that every run on a stream,
    with any seed and class order, holds out the same images.

    Args:
        index: int64 (N,), the images of the class.
        share: how much to hold out, in [0, 1).
        label: the class's label in its data set.
    """
    order = np.random.default_rng([label, len(index)]).permutation(len(index))
    shuffled = index[torch.from_numpy(order)]
    count = round(len(index) * share)
    return shuffled[count:].sort().values, shuffled[:count].sort().values


class _Part:
    """The training or test parts of several data sets as one source of images."""

    def __init__(
        self,
        labelled: Sequence[Labelled],
        datasets: Sequence[DataSet],
        part: str,
        data_dir: Path,
        storages: Sequence[Storage],
    ) -> None:
        alone = len(datasets) == 1
        sources = [
            storage.open(one, f"{data.name}-{part}", data_dir, native=alone)
            for one, data, storage in zip(labelled, datasets, storages, strict=True)
        ]
        self.labelled = labelled
        self.images: Images = sources[0] if alone else JoinedImages(sources)

    def of_class(self, dataset: int, label: int, most: int | None = None) -> Tensor:
        """Positions of a class's images, at most ``most`` of them in a fixed draw."""
        start = sum(len(one.labels) for one in self.labelled[:dataset])
        index = np.flatnonzero(self.labelled[dataset].labels == label) + start
        if most is not None and most < len(index):
            index = np.sort(np.random.default_rng([label, len(index), 1]).permutation(index)[:most])
        return torch.from_numpy(index)


def _labelled(images: Images, index: Tensor, label: int) -> Split:
    return Split(images, index, torch.full_like(index, label))


def _apart(train: _Part, test: _Part, labels: Sequence[int]) -> tuple[Split, Split] | None:
    """Training and test data of the pretraining classes, labelled 0…K-1."""
    if not labels:
        return None
    return tuple(  # type: ignore[return-value]
        Split.joined(
            [_labelled(part.images, part.of_class(0, c), new) for new, c in enumerate(labels)]
        )
        for part in (train, test)
    )


def _entry(task: Task, names: Sequence[str]) -> dict[str, object]:
    return {
        "name": task.name,
        "classes": names[task.classes.start : task.classes.stop],
        "train": len(task.train),
        "test": len(task.test),
        "training_images_sha256": hashlib.sha256(task.train.index.numpy().tobytes()).hexdigest(),
        "validation_images": task.validation.index.tolist(),
    }
