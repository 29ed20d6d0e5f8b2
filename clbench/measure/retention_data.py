"""What a retention set is before an image of it is decoded: folders of one's own, or a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clbench.data.datasets import Labelled
from clbench.data.datasets.folders import read_class_folders
from clbench.data.images import FileImages, TensorImages, from_array
from clbench.data.words import expanded, few
from clbench.errors import ClbenchError
from clbench.recipe.recipe import Recipe
from clbench.recipe.retention import RetentionSet
from clbench.streams import Shelf, StreamConfig, data_sets
from clbench.streams.draws import choose
from clbench.streams.outline import Needed


@dataclass(frozen=True)
class ArrayImages:
    """Images in an array, uint8 (N, H, W) or (N, H, W, 3), to be kept at ``side`` × ``side``."""

    array: np.ndarray
    side: int

    def __len__(self) -> int:
        return len(self.array)

    def open(self) -> TensorImages:
        """The images, at their size."""
        return from_array(self.array, self.side)


class ClassImages(NamedTuple):
    """Images of classes.

    Attributes:
        asked: those that are asked about.
        classes: their names, by label.
        learn: gives others, of the same classes, to learn the labels from; None: there are none.
        absent: whether the data set is not here: as many images without pixels, and no names.
        trained: the folder of those to learn from, if the recipe names one.
    """

    asked: Labelled
    classes: tuple[str, ...]
    learn: Callable[[], Labelled] | None = None
    absent: bool = False
    trained: str | None = None


def of_folder(folder: Path, train: str | None, place: str, *hint: str) -> ClassImages:
    """Images of a folder of class folders.

    Args:
        folder: of the images to ask about.
        train: that of the same classes to learn from, if there is one.
        place: in the recipe, which names both.
        hint: what the folder must be.

    Raises:
        ClbenchError: if there are no such images.
    """
    found = read_class_folders(expanded(folder), f"{place}.data", *hint)
    if train is not None and expanded(Path(train)).resolve() == expanded(folder).resolve():
        raise ClbenchError(
            f"{place}.train = {train} is {place}.data: it would be asked about what it has "
            f"learned; give other images, or leave {place}.train out: then half of them are learned"
        )

    def learn() -> Labelled:
        theirs = read_class_folders(expanded(Path(train or "")), f"{place}.train")
        if theirs.classes != found.classes:
            apart = few(sorted({*theirs.classes} ^ {*found.classes}))
            raise ClbenchError(
                f"{place}.train = {train} has other classes than {place}.data: only in one of "
                f"them {apart}; give both the same class folders"
            )
        return Labelled(theirs.paths, theirs.labels)

    asked = Labelled(found.paths, found.labels)
    return ClassImages(asked, found.classes, learn if train is not None else None, trained=train)


def of_set(own: RetentionSet, recipe: Recipe, shelf: Shelf, place: str) -> ClassImages:
    """Images of a set of the recipe's: its folders or its data set, as many of a class as it says.

    Args:
        own: the set.
        recipe: says where data sets are, and whether one is fetched.
        shelf: where they come from.
        place: of the set in the recipe.

    Raises:
        ClbenchError: if there are no such images.
    """
    if own.dataset is None:
        found = of_folder(Path(own.data or ""), own.train, place)
    else:
        data = shelf.load(own.dataset, recipe.data_dir, recipe.stream.download)
        found = ClassImages(data.test, data.classes, lambda: data.train, data.stand_in)
    few_of = partial(_few, classes=len(found.classes), most=own.per_class)
    learn = found.learn
    return found._replace(
        asked=few_of(found.asked), learn=None if learn is None else lambda: few_of(learn())
    )


def _few(part: Labelled, classes: int, most: int | None) -> Labelled:
    return part if most is None else choose(part, range(classes), most, set())


def trains_on(stream: StreamConfig, dataset: str) -> bool:
    """Whether a stream's tasks are of a data set, as far as names tell.

    >>> from clbench.streams import STREAMS
    >>> mine = STREAMS["split_cifar10"].model_validate({"name": "split_cifar10"})
    >>> trains_on(mine, "cifar10"), trains_on(mine, "cifar100")
    (True, False)
    """
    named = [*getattr(stream, "datasets", data_sets(stream.name))]
    named += [str(getattr(stream, "dataset", ""))]  # of other libraries, as in uoft-cs/cifar100
    return _plain(dataset) in map(_plain, named)


def _plain(name: str) -> str:
    """A name without what tells the same images apart."""
    last = name.rpartition("/")[2].lower()
    bare = last.removesuffix("_pilot").removesuffix("_sessions")
    return "".join(letter for letter in bare if letter.isalnum())


def take_note(images: FileImages | ArrayImages, name: str, recipe: Recipe, needed: Needed) -> None:
    """Add what keeping the images takes to ``needed``; by ``name`` a run keeps them."""
    if isinstance(images, FileImages):
        needed.decode(images, name, recipe.data_dir)
    else:
        labelled = Labelled(images.array, np.empty(len(images)))
        needed.keep(recipe.images, labelled, images.side, name, recipe.data_dir)
