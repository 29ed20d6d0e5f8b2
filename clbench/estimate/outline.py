"""The outline of a stream: its tasks and their sizes, without reading, fetching or keeping images.

:func:`outline` builds a recipe's stream as a run would, but images are random pixels of the right
size, and data sets whose files are not there are replaced by stand-ins of their well-known size.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clbench.data.cache import find_cache
from clbench.data.datasets import DATASETS, DataSet, Labelled
from clbench.data.datasets.sizes import SIZES, stand_in
from clbench.data.decode import decode
from clbench.data.images import FileImages, Images, from_array
from clbench.errors import ClbenchError
from clbench.machine import cores
from clbench.recipe.recipe import Recipe
from clbench.streams import Storage, Stream

#: Random images are drawn from a pool of so many.
POOL = 64


@dataclass(frozen=True)
class Absent:
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


@dataclass(frozen=True)
class Source:
    """Where images of a stream will be kept.

    Attributes:
        name: data set and part.
        count: of images.
        kept: ``memory``, ``cache`` (a file on disk) or ``files`` (decoded whenever they are taken).
        bytes: what they take there.
        seconds: to prepare them, once; 0 where a cache is there already.
        there: whether nothing has to be written any more.
        each: seconds to decode one whenever it is taken.
    """

    name: str
    count: int
    kept: str
    bytes: int
    seconds: float
    there: bool
    each: float = 0.0


@dataclass(frozen=True)
class Outline:
    """A stream without its images.

    Attributes:
        stream: as a run builds it.
        sources: its images.
        absent: data sets that are not there; the stream's sizes are then well-known ones.
        seconds: it took to read what there is.
    """

    stream: Stream
    sources: tuple[Source, ...]
    absent: tuple[Absent, ...]
    seconds: float

    @property
    def each(self) -> float:
        """Seconds to decode an image whenever it is taken."""
        return max((source.each for source in self.sources), default=0.0)


class Pixels(Images):
    """N images that are given out from a small pool.

    Args:
        count: N.
        slow: as in :class:`~clbench.data.images.Images`.
        pool: random images uint8 (P, C, H, W).
    """

    def __init__(self, count: int, slow: bool, pool: Tensor) -> None:
        self.count, self.slow, self._pool = count, slow, pool

    def __len__(self) -> int:
        return self.count

    def take(self, index: Tensor) -> Tensor:
        """As :meth:`Images.take`."""
        return self._pool.index_select(0, (index % len(self._pool)).to(self._pool.device))

    def fingerprint(self) -> str:
        """Nothing identifies these images."""
        return "outline"

    def move(self, device: torch.device) -> None:
        """Images in memory move, as those of a run do."""
        if not self.slow:
            self._pool = self._pool.to(device)


class Sketch(Storage):
    """Keeps images as a recipe's storage would, in outline; ``_sources`` collects them."""

    _sources: list[Source] = []

    def open(self, labelled: Labelled, name: str, data_dir: Path, native: bool = True) -> Images:
        """See :meth:`Storage.open`."""
        side, count = self.side(labelled, native), len(labelled.labels)
        images = labelled.images
        if isinstance(images, np.ndarray):
            channels = 1 if images.ndim == 3 else 3
            seconds = 0.0
            if images.shape[1:3] != (side, side):
                seconds = _seconds(lambda: from_array(images[:32], side)) * count / 32
            size = count * channels * side * side
            self._sources.append(Source(name, count, "memory", size, seconds, False))
            return _random(count, channels, side, slow=False)
        files = FileImages(images, side, self.fit, self.range)
        exist = images[0].exists()
        there = self.keep != "files" and exist and _cached(files, data_dir, name)
        each = 0.0 if there else _decoding(files, self.workers)
        if self.keep == "files":
            self._sources.append(Source(name, count, "files", 0, 0.0, True, each))
            return _random(count, 3, side, slow=True)
        seconds = each * count
        size = count * 3 * side * side
        self._sources.append(Source(name, count, "cache", size, seconds, there))
        if self.keep == "memory":
            self._sources.append(Source(name, count, "memory", size, 0.0, False))
        return _random(count, 3, side, slow=self.keep != "memory")


def outline(recipe: Recipe) -> Outline:
    """The stream of a recipe in outline; nothing is fetched, and no cache is written.

    Raises:
        ClbenchError: if the stream is refused, or its own images (of no known size) are missing.
    """
    began = time.perf_counter()
    sources: list[Source] = []

    def sketch(storage: Storage) -> Sketch:
        made = Sketch(**storage.model_dump())
        made._sources = sources
        return made

    with stand_ins(recipe.stream.download) as absent:
        config = recipe.stream.model_copy(update={"download": False})
        stream = recipe.model_copy(update={"stream": config}).build_stream(sketch)
    return Outline(stream, tuple(sources), tuple(absent), time.perf_counter() - began)


@contextmanager
def stand_ins(download: bool) -> Iterator[list[Absent]]:
    """Within the context, data sets that are not there are replaced; yields the list of them.

    Args:
        download: whether a run may fetch what is missing.
    """
    absent: list[Absent] = []

    def instead(name: str, loader: Callable[[Path, bool], DataSet]) -> Callable[..., DataSet]:
        def load(root: Path, _: bool) -> DataSet:
            try:
                return loader(root, False)
            except ClbenchError as error:
                fetched = download and "stream.download" in str(error)
                absent.append(Absent(name, str(error), fetched, SIZES[name].disk))
                return stand_in(name)

        return load

    real = dict(DATASETS)
    DATASETS.update({name: instead(name, real[name]) for name in real.keys() & SIZES.keys()})
    try:
        yield absent
    finally:
        DATASETS.update(real)


def _random(count: int, channels: int, side: int, slow: bool) -> Pixels:
    random = torch.Generator().manual_seed(0)
    shape = (min(POOL, count), channels, side, side)
    pool = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
    return Pixels(count, slow, pool)


def _cached(files: FileImages, data_dir: Path, name: str) -> bool:
    return find_cache(files, data_dir / "cache", name) is not None


def _decoding(files: FileImages, workers: int) -> float:
    """Seconds to decode an image; that of a made-up photograph if they are not there."""
    count, threads = min(8, len(files)), max(1, min(workers, cores()))
    if files.paths[0].exists():
        return _seconds(lambda: files.take(torch.arange(count))) / count / threads
    noise = np.random.default_rng(0).integers(0, 256, (47, 63, 3), dtype=np.uint8)
    made = io.BytesIO()
    Image.fromarray(noise).resize((500, 375)).save(made, "JPEG")
    photograph = made.getvalue()
    return _seconds(lambda: decode(photograph, files.size, files.fit)) / threads


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
