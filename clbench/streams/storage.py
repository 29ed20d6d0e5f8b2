"""How the images of streams are kept, and where they come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field, field_validator

from clbench.data import datasets
from clbench.data.cache import cache, checked
from clbench.data.datasets import DataSet, Labelled
from clbench.data.decode import Limits
from clbench.data.images import FileImages, Images, TensorImages, from_array
from clbench.data.members import File, Members
from clbench.data.square import Fit
from clbench.errors import ClbenchError
from clbench.settings import Section

#: Of pixels in 0…1. What is divided by a tiny deviation is not finite.
PixelMean = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PixelDeviation = Annotated[float, Field(ge=1e-4, le=1, allow_inf_nan=False)]
_BY_TORCH: dict[str, Fit] = {"crop": "crop-torch", "squash": "squash-torch"}


class Storage(Section):
    """How images are kept between the data set and the network."""

    size: int = Field(32, ge=4, le=1024, description="side of the network's input, in pixels")
    stored: int | None = Field(
        None,
        ge=4,
        le=2048,
        description="side of the stored images; default: arrays keep their own size (at most "
        "`size`), image files are stored at 8/7 of `size`",
    )
    fit: Literal["crop", "squash"] = Field(
        "crop",
        description="crop: scale the shorter side, keep the centre square; "
        "squash: scale both sides",
    )
    scaling: Literal["pillow", "torch"] = Field(
        "pillow",
        description="what scales image files: pillow; torch: in half of the time, to values that "
        "differ by at most 2 of 255",
    )
    range: Limits | None = Field(
        None,
        description="values that become black and white in image files of more than 8 bits, e.g. "
        "[0, 4095]; default: 0…65535 of 16 bits, 0…1 of floats; 32-bit integers need it",
    )
    keep: Literal["auto", "memory", "disk", "files"] = Field(
        "auto",
        description="auto: arrays in memory, image files in a cache on disk; memory; disk; "
        "files: decode in every epoch",
    )
    workers: int = Field(4, ge=0, description="threads that read ahead (not used in memory)")
    mean: tuple[PixelMean, PixelMean, PixelMean] | None = Field(
        None, description="per-channel mean, 0…1; default: the backbone's own"
    )
    std: tuple[PixelDeviation, PixelDeviation, PixelDeviation] | None = Field(
        None, description="per-channel standard deviation, 0…1; default: the backbone's own"
    )

    @field_validator("range")
    @classmethod
    def _from_black_to_white(cls, value: Limits | None) -> Limits | None:
        if value is not None and not (all(map(math.isfinite, value)) and value[0] < value[1]):
            raise ValueError("must be two numbers, black and white, the smaller one first")
        return value

    def side(self, labelled: Labelled, native: bool) -> int:
        """Side of the stored images, in pixels.

        Args:
            labelled: what the data set handed over.
            native: whether an array may keep its own size; sources to be joined need one size.
        """
        if self.stored is not None:
            return self.stored
        if native and isinstance(labelled.images, np.ndarray):
            height, width = labelled.images.shape[1:3]
            return min(height, self.size) if height == width else round(self.size * 8 / 7)
        return round(self.size * 8 / 7)

    def open(self, labelled: Labelled, side: int, name: str, data_dir: Path) -> Images:
        """Keep the images of a data set as the recipe says.

        Args:
            labelled: what the data set handed over.
            side: of the stored images, as :meth:`side` has it.
            name: names the cache file.
            data_dir: the cache is ``data_dir/cache``.

        Raises:
            ClbenchError: if images cannot be read, or there is no room for them.
        """
        try:
            return self._opened(labelled, side, name, data_dir)
        except (MemoryError, RuntimeError) as error:  # PyTorch has no type for it
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            count = len(labelled.labels)
            raise ClbenchError(
                f"{count:,} images of {name} at {side} pixels take {count * 3 * side**2 / 1e9:.1f} "
                "GB, more memory than there is: lower images.stored, or set images.keep: disk for "
                "image files"
            ) from error

    def _opened(self, labelled: Labelled, side: int, name: str, data_dir: Path) -> Images:
        if isinstance(labelled.images, np.ndarray):
            return from_array(labelled.images, side)
        folder = data_dir / "cache"
        files = self.files(labelled.images, side)
        if self.keep == "files":
            if isinstance(labelled.images, Members) and not labelled.images.apart:
                raise ClbenchError(
                    f"images.keep = 'files', but images of {name} cannot be read one by one where "
                    "they lie: set images.keep: disk, or memory"
                )
            return checked(files, folder, name, self.workers)
        cached = cache(files, folder, name, self.workers)
        if self.keep == "memory":
            return TensorImages(cached.in_memory(), files.digests(), files.about)
        return cached

    def files(self, paths: Sequence[File], side: int) -> FileImages:
        """Image files, to be read as the recipe says; ``side`` is that of the stored images."""
        fit = self.fit if self.scaling == "pillow" else _BY_TORCH[self.fit]
        return FileImages(paths, side, fit, self.range, workers=self.workers)


#: Loads a data set by its name, from the data root, fetching it or not.
Loader = Callable[[str, Path, bool], DataSet]
#: Opens images, as :meth:`Storage.open` does.
OpenImages = Callable[[Storage, Labelled, int, str, Path], Images]


class Load(Protocol):
    """The same, by a loader that may be given in place of the one in the table of data sets."""

    def __call__(
        self, name: str, root: Path, fetch: bool, loader: Loader | None = None, /
    ) -> DataSet:
        """See :func:`clbench.data.datasets.load`."""


def _load(name: str, root: Path, fetch: bool, loader: Loader | None = None) -> DataSet:
    return (loader or datasets.load)(name, root, fetch)


@dataclass(frozen=True)
class Shelf:
    """Where streams take data sets and their images from.

    Attributes:
        load: what loads data sets.
        keep: what opens their images.
        own: storage of single data sets, by name.
    """

    load: Load = _load
    keep: OpenImages = Storage.open
    own: Mapping[str, Storage] = field(default_factory=dict)


#: What is on the disk.
DISK = Shelf()
