"""A stream in outline: random pixels of the right size, and what keeping the real ones takes.

Data sets that are not there have stand-ins of their known size. Nothing is fetched, and no image is
kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clbench.data import datasets
from clbench.data.cache import find_cache
from clbench.data.datasets import DataSet, Labelled
from clbench.data.datasets.base import FETCHES
from clbench.data.datasets.sizes import SIZES, stand_in
from clbench.data.images import FileImages, Images, TensorImages, from_array
from clbench.errors import ClbenchError
from clbench.machine import cores
from clbench.seeding import generator
from clbench.streams.storage import Loader, Storage

#: Random images are drawn from a pool of so many.
POOL = 64
#: Seconds that a core takes to decode a photograph which is not there to be measured.
PHOTOGRAPH = 0.005


class Missing(NamedTuple):
    """Something a run needs that is not on this machine."""

    what: str  # its name, such as ``cifar10``
    how: str  # where it comes from and where it belongs, in a sentence
    fetched: bool  # whether the run fetches it itself, given a network
    disk: int = 0  # bytes it will take


@dataclass
class Needed:
    """What keeping the images of a stream takes."""

    seconds: float = 0.0  # to prepare them, once
    memory: int = 0  # bytes of those that lie there
    cache: int = 0  # bytes of image caches still to be written
    missing: list[Missing] = field(default_factory=list)  # data sets

    def copy(self) -> Needed:
        """The same, to be added to."""
        return replace(self, missing=[*self.missing])

    def load(
        self, fetches: bool, name: str, root: Path, _: bool, loader: Loader | None = None
    ) -> DataSet:
        """A data set or its stand-in; nothing is fetched, but a run may where it ``fetches``.

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
            if name not in [one.what for one in self.missing]:
                how = str(error).replace(FETCHES, "") if fetched else str(error)
                self.missing.append(Missing(name, how, fetched, SIZES[name].disk))
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
        files = storage.files(images, side)
        if storage.keep == "files":
            there = files if images[0].exists() else None
            return Pixels(count, 3, side, slow=True, files=there)
        self.decode(files, name, data_dir)
        self.memory += count * 3 * side**2 * (storage.keep == "memory")
        return Pixels(count, 3, side, slow=storage.keep != "memory")

    def decode(self, files: FileImages, name: str, data_dir: Path) -> None:
        """Take note of what :func:`clbench.data.cache.cache` would do with files."""
        there, count = files.paths[0].exists(), len(files)
        if there and find_cache(files, data_dir / "cache", name) is not None:
            return
        few, threads = torch.arange(min(8, count)), max(1, min(files.workers, cores()))
        each = _seconds(lambda: files.take(few)) / len(few) if there else PHOTOGRAPH
        self.seconds += each / threads * count
        self.cache += count * 3 * files.size**2


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
        """See :meth:`Images.take`."""
        return self._pool.take(index % len(self._pool))

    def fingerprint(self) -> str:
        """Nothing identifies these images."""
        return "outline"

    def move(self, device: torch.device) -> None:
        """Images in memory move, as those of a run do."""
        if not self.slow:
            self._pool.move(device)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
