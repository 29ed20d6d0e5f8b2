"""The outline of a stream: its tasks and their sizes, without reading, fetching or keeping images.

:func:`outline` builds a recipe's stream as a run would, from a shelf of its own: images are random
pixels of the right size, and data sets that are not there have stand-ins of their known size.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clbench.data import datasets
from clbench.data.cache import find_cache
from clbench.data.datasets import DataSet, Labelled
from clbench.data.datasets.sizes import SIZES, stand_in
from clbench.data.images import FileImages, Images, TensorImages, from_array
from clbench.errors import ClbenchError
from clbench.machine import cores
from clbench.recipe.recipe import Recipe
from clbench.seeding import generator
from clbench.streams import Shelf, Storage, Stream
from clbench.streams.storage import Loader

#: Random images are drawn from a pool of so many.
POOL = 64
#: Seconds that a core takes to decode a photograph which is not there to be measured.
PHOTOGRAPH = 0.005


class Missing(NamedTuple):
    """Something a run needs that is not on this machine.

    Attributes:
        what: its name, such as ``cifar10``.
        how: where it comes from and where it belongs, in a sentence.
        fetched: whether the run fetches it itself, given a network.
        disk: bytes it will take.
    """

    what: str
    how: str
    fetched: bool
    disk: int = 0


@dataclass
class Needed:
    """What keeping the images of a stream takes.

    Attributes:
        seconds: to prepare them, once.
        memory: bytes of those that lie there.
        cache: bytes of image caches still to be written.
        missing: data sets that are not there.
    """

    seconds: float = 0.0
    memory: int = 0
    cache: int = 0
    missing: list[Missing] = field(default_factory=list)

    def load(
        self, fetches: bool, name: str, root: Path, _: bool, loader: Loader | None = None
    ) -> DataSet:
        """A data set, or its stand-in; nothing is fetched.

        Args:
            fetches: whether a run may fetch what is missing.
            name: of the data set.
            root: where data lies.
            loader: of a data set that is in no table.

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
        files, bytes_ = FileImages(images, side, storage.fit, storage.range), count * 3 * side**2
        there = images[0].exists()
        if storage.keep == "files":
            return Pixels(count, 3, side, slow=True, files=files if there else None)
        if not there or find_cache(files, data_dir / "cache", name) is None:
            self.seconds += decoding(files, storage.workers) * count
            self.cache += bytes_
        self.memory += bytes_ * (storage.keep == "memory")
        return Pixels(count, 3, side, slow=storage.keep != "memory")


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
        """As :meth:`Images.take`."""
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


def decoding(files: FileImages, workers: int) -> float:
    """Seconds to decode one of many images."""
    count, threads = min(8, len(files)), max(1, min(workers, cores()))
    if not files.paths[0].exists():
        return PHOTOGRAPH / threads
    return _seconds(lambda: files.take(torch.arange(count))) / count / threads


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
