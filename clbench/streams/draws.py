"""Which images of a class are used, and which are held out: draws that every run has in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clbench.data.datasets import Labelled
from clbench.data.members import Members


def choose(part: Labelled, classes: Sequence[int], most: int | None, whole: set[int]) -> Labelled:
    """The images of some classes, before any is opened.

    Args:
        part: of a data set.
        classes: labels that tasks learn, each with at most ``most`` images in a fixed draw.
        most: None for all.
        whole: labels of which all images are used.
    """
    positions = []
    for label in {*classes, *whole}:
        index = np.flatnonzero(part.labels == label)
        if label not in whole and most is not None and most < len(index):
            index = np.random.default_rng([label, len(index), 1]).permutation(index)[:most]
        positions.append(index)
    chosen = np.sort(np.concatenate(positions)) if positions else np.empty(0, dtype=np.int64)
    if len(chosen) == len(part.labels):
        return part
    if isinstance(part.images, np.ndarray):
        return Labelled(part.images[chosen], part.labels[chosen])
    if isinstance(part.images, Members):
        return Labelled(part.images.pick(chosen), part.labels[chosen])
    return Labelled(tuple(part.images[i] for i in chosen.tolist()), part.labels[chosen])


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
