"""From data sets and a grouping of their classes to a stream."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clbench.data.arranged import ArrangedImages
from clbench.data.batches import Split
from clbench.data.contents import joined
from clbench.data.datasets import DataSet, Labelled
from clbench.data.decode import BadImages
from clbench.data.duplicates import tell_duplicates
from clbench.data.images import GuardedImages, Images, JoinedImages
from clbench.data.members import File
from clbench.data.words import few
from clbench.errors import ClbenchError
from clbench.streams.base import Group, Stream, StreamConfig, Task
from clbench.streams.draws import choose, hold_out
from clbench.streams.storage import DISK, Shelf, Storage

#: Version of the manifest, whose fingerprints of images are those of their contents.
MANIFEST = 2


def assemble(
    config: StreamConfig,
    datasets: Sequence[DataSet],
    groups: Sequence[Group],
    data_dir: Path,
    storage: Storage,
    pretrain_classes: Sequence[int] = (),
    independent: bool = False,
    about: Mapping[str, object] | None = None,
    compare: bool = False,
    arrange: Callable[[int], Tensor] | None = None,
    shelf: Shelf = DISK,
) -> Stream:
    """Lay out the tasks.

    Global labels count the classes in stream order; where tasks share labels, they count the
    classes in each task. Only images that the stream uses are opened.

    Args:
        config: names the stream, the validation share and limits on the number of images, and
            says whether tasks share their labels.
        datasets: one or more data sets; their images are joined.
        groups: the classes of each task, in order.
        data_dir: where the image cache lives.
        storage: how images are kept.
        pretrain_classes: labels of the first data set set apart for pretraining.
        independent: whether every task starts from the pretrained weights.
        about: more for the manifest.
        compare: whether to say which image files are there more than once.
        arrange: gives arrangements of the pixels by the side of the stored images, see
            :class:`~clbench.data.arranged.ArrangedImages`; groups choose among them.
        shelf: opens the images. Those of data sets with a storage of their own may differ in
            size, so that no batch can mix them.

    Raises:
        ClbenchError: if an image cannot be read, a class has too few images, or tasks that are to
            share labels are not of one size.
    """
    shared = config.shares_labels
    if shared:
        _refuse_sizes(groups)
    storages = [shelf.own.get(data.name, storage) for data in datasets]
    trained, tested = _chosen(config, datasets, groups, set(pretrain_classes))
    _refuse_empty(config, datasets, groups, trained, tested)
    train, test = _open(datasets, {"train": trained, "test": tested}, data_dir, storages, shelf)
    if arrange is not None:
        train.arrange(arrange)
        test.arrange(arrange)
    allowed = torch.zeros(len(train.images), dtype=torch.bool)
    guarded = GuardedImages(train.images, allowed)
    tasks = _tasks(config, groups, train, test, guarded)
    called = [
        [datasets[group.dataset].classes[label] for label in group.labels] for group in groups
    ]
    if compare:
        tell_duplicates(trained, tested, train.images.digests(), test.images.digests())
    return Stream(
        tasks=tasks,
        class_names=_joint_names(called) if shared else tuple(itertools.chain(*called)),
        train_images=train.images,
        test_images=test.images,
        allowed=allowed,
        pretraining=_apart(train, test, pretrain_classes),
        independent=independent,
        manifest={
            "version": MANIFEST,
            "stream": config.name,
            **({"labels": "shared"} if shared else {}),
            **(about or {}),
            "validation": config.validation,
            "train_images": train.images.fingerprint(),
            "test_images": test.images.fingerprint(),
            "pretrain_classes": [datasets[0].classes[label] for label in pretrain_classes],
            "tasks": [_entry(*one) for one in zip(tasks, called, strict=True)],
        },
        shared=shared,
    )


def _chosen(
    config: StreamConfig, datasets: Sequence[DataSet], groups: Sequence[Group], whole: set[int]
) -> tuple[list[Labelled], list[Labelled]]:
    """The training and test images of each data set that the stream uses."""
    trained, tested = [], []
    for number, data in enumerate(datasets):
        mine, apart = [g for g in groups if g.dataset == number], whole if number == 0 else set()
        labels = [label for group in mine for label in group.labels]
        trained.append(choose(data.train, labels, config.train_per_class, apart))
        labels = [label for group in mine for label in group.test_labels]
        tested.append(choose(data.test, labels, config.test_per_class, apart))
    return trained, tested


def _tasks(
    config: StreamConfig, groups: Sequence[Group], train: _Part, test: _Part, guarded: Images
) -> tuple[Task, ...]:
    """The tasks with their global labels."""
    tasks: list[Task] = []
    first = 0
    for number, group in enumerate(groups):
        parts: tuple[list[Split], list[Split], list[Split]] = ([], [], [])
        labels = zip(group.labels, group.test_labels, strict=True)
        for new, (label, test_label) in enumerate(labels, first):
            kept, out = hold_out(train.of_class(group, label), config.validation, label)
            parts[0].append(_labelled(guarded, kept, new))
            parts[1].append(_labelled(train.images, out, new))
            parts[2].append(_labelled(test.images, test.of_class(group, test_label), new))
        splits = [Split.joined(part) for part in parts]
        classes = range(first, first + len(group.labels))
        tasks.append(Task(number, group.name, classes, *splits))
        first = 0 if config.shares_labels else classes.stop
    return tuple(tasks)


def _refuse_sizes(groups: Sequence[Group]) -> None:
    sizes = [len(group.labels) for group in groups]
    if len(set(sizes)) > 1:
        raise ClbenchError(
            f"stream.labels = 'shared', but the tasks have {few(sizes)} classes: tasks that share "
            "labels have equally many"
        )
    if sizes[0] < 2:
        raise ClbenchError(
            f"tasks that share labels have {sizes[0]} class{'es' * (not sizes[0])} each, so that "
            "there is nothing to tell apart: make tasks of two classes or more"
        )


def _joint_names(called: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The name of each label that tasks share, from what the classes of each task are called.

    >>> _joint_names([["0", "2"], ["1", "2"]])
    ('0 | 1', '2')
    """
    return tuple(_joint_name(list(dict.fromkeys(names))) for names in zip(*called, strict=True))


def _joint_name(names: Sequence[str]) -> str:
    return " | ".join(names[:3]) + (" | …" if len(names) > 3 else "")


def _refuse_empty(
    config: StreamConfig,
    datasets: Sequence[DataSet],
    groups: Sequence[Group],
    trained: Sequence[Labelled],
    tested: Sequence[Labelled],
) -> None:
    for group in groups:
        for label, test_label in zip(group.labels, group.test_labels, strict=True):
            count = int((trained[group.dataset].labels == label).sum())
            lack = ""
            none = count <= round(count * config.validation)
            if none and not (group.partial and count == 0):
                lack = "training images left"
            elif not (tested[group.dataset].labels == test_label).any():
                lack = "test images"
            if lack:
                name = datasets[group.dataset].classes[label]
                raise ClbenchError(
                    f"class {name!r} has no {lack} (stream.validation = {config.validation})"
                )


class _Part:
    """The training or test parts of several data sets as one source of images."""

    def __init__(self, labelled: Sequence[Labelled], sources: Sequence[Images]) -> None:
        self.labelled = labelled
        self.images: Images = sources[0] if len(sources) == 1 else JoinedImages(sources)
        #: The images as they are stored.
        self.plain = self.images

    def arrange(self, arrange: Callable[[int], Tensor]) -> None:
        """Have the images in all arrangements, one after the other."""
        side = self.plain.take(torch.tensor([0])).shape[-1]
        self.images = ArrangedImages(self.plain, arrange(side))

    def of_class(self, group: Group, label: int) -> Tensor:
        """Positions of the images of a class, in its group's arrangement."""
        start = sum(len(one.labels) for one in self.labelled[: group.dataset])
        start += group.arrangement * len(self.plain)
        mine = np.flatnonzero(self.labelled[group.dataset].labels == label)
        return torch.from_numpy(mine + start)


def _open(
    datasets: Sequence[DataSet],
    parts: Mapping[str, Sequence[Labelled]],
    data_dir: Path,
    storages: Sequence[Storage],
    shelf: Shelf,
) -> list[_Part]:
    """Open all images.

    Raises:
        BadImages: if some cannot be read: all of them, so that they can be mended in one go.
    """
    bad: list[tuple[File | str, str]] = []
    opened = []
    for name, labelled in parts.items():
        sources = []
        for one, data, storage in zip(labelled, datasets, storages, strict=True):
            try:
                side = storage.side(one, native=len(datasets) == 1)
                sources.append(shelf.keep(storage, one, side, f"{data.name}-{name}", data_dir))
            except BadImages as error:
                bad += error.found
        if not bad:
            opened.append(_Part(labelled, sources))
    if bad:
        raise BadImages(bad)
    return opened


def _labelled(images: Images, index: Tensor, label: int) -> Split:
    return Split(images, index, torch.full_like(index, label))


def _apart(train: _Part, test: _Part, labels: Sequence[int]) -> tuple[Split, Split] | None:
    """Training and test data of the pretraining classes, labelled 0…K-1."""
    if not labels:
        return None
    whole = Group("pretraining", 0, tuple(labels))
    return tuple(  # type: ignore[return-value]
        Split.joined(
            [_labelled(part.plain, part.of_class(whole, c), new) for new, c in enumerate(labels)]
        )
        for part in (train, test)
    )


def _entry(task: Task, classes: list[str]) -> dict[str, object]:
    return {
        "name": task.name,
        "classes": classes,
        "train": len(task.train),
        "test": len(task.test),
        "validation_images": task.validation.index.tolist(),
        "sha256": {part: _content(getattr(task, part)) for part in ("train", "validation", "test")},
    }


def _content(split: Split) -> str | None:
    """SHA-256 of what the images of a split are, in their order."""
    digests = split.images.digests()
    return None if digests is None else joined(digests[split.index.numpy()])
