"""Images of a cache on disk, read as they are taken: memory does not grow with their number."""

from __future__ import annotations

import os
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench.data.images import FileImages, Images
from clbench.data.words import note

#: Bytes of decoded images that a thread works on at once, and most images.
CHUNK, MOST = 2**25, 256


class CachedImages(Images):
    """Decoded images in one file, made once by :func:`cache`.

    Args:
        path: a ``.npy`` file of rows of ``pixels``, uint8 (3, H, W), and their ``sum``, a CRC-32.
        files: what it was made from.
    """

    def __init__(self, path: Path, files: FileImages) -> None:
        self.path, self.files = path, files
        # Not mapped: its pages would count as this process's memory, all of them in the end.
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        version = np.lib.format.read_magic(self._file)
        shape, _, kind = np.lib.format.read_array_header_1_0(self._file)
        self._start, self._length = self._file.tell(), kind.itemsize
        whole = os.fstat(self._file.fileno()).st_size >= self._start + shape[0] * self._length
        if (
            version != (1, 0)
            or kind != cache_row(files.size)
            or shape != (len(files),)
            or not whole
        ):
            raise ValueError("rows of another kind")
        self._right = np.zeros(len(files), dtype=bool)
        self._told = False

    def __len__(self) -> int:
        return len(self.files)

    def take(self, index: Tensor) -> Tensor:
        """See :meth:`Images.take`."""
        pixels = np.empty((len(index), 3, self.files.size, self.files.size), dtype=np.uint8)
        for place, number in enumerate(index.tolist()):
            if not self._read(number, pixels[place]):
                pixels[place] = self._again(number)
        return torch.from_numpy(pixels)

    def _read(self, number: int, pixels: np.ndarray) -> bool:
        """Read one image into its place; returns whether it is what was written."""
        known, total = self._right[number], np.empty(1, dtype="<u4")
        try:
            parts = [pixels] if known else [pixels, total]
            got = _read_at(self._file.fileno(), parts, self._start + number * self._length)
        except OSError:
            return False
        if got < sum(part.nbytes for part in parts):
            return False
        if not known and zlib.crc32(pixels.data) != int(total[0]):
            return False
        self._right[number] = True
        return True

    def _again(self, number: int) -> np.ndarray:
        if not self._told:
            self._told = True
            note(
                f"The image cache {self.path} is damaged: what is damaged is decoded again from "
                "the image files, and the next run makes the cache anew"
            )
            try:
                self.path.unlink(missing_ok=True)
            except OSError as error:
                note(f"{self.path} cannot be removed ({error.strerror}): remove it")
        return self.files.read(number).transpose(2, 0, 1)

    def in_memory(self) -> Tensor:
        """All images, uint8 (N, 3, H, W)."""
        images = torch.empty((len(self), 3, *[self.files.size] * 2), dtype=torch.uint8)
        for chunk in cache_chunks(self.files):
            images[chunk] = self.take(chunk)
        return images

    def digests(self) -> np.ndarray:
        """See :meth:`Images.digests`."""
        return self.files.digests()

    def fingerprint(self) -> str:
        """See :meth:`Images.fingerprint`."""
        return self.files.fingerprint()


def cache_row(size: int) -> np.dtype[np.void]:
    """One image of a cache: its pixels and their CRC-32; ``size`` is its side, in pixels."""
    return np.dtype([("pixels", "u1", (3, size, size)), ("sum", "<u4")])


def cache_chunks(files: FileImages) -> tuple[Tensor, ...]:
    """All positions, as many at a time as a thread works on."""
    each = max(1, min(MOST, CHUNK // cache_row(files.size).itemsize))
    return torch.arange(len(files)).split(each)


def _read_at(descriptor: int, parts: list[Any], offset: int) -> int:
    """Fill arrays, one after the other, with what a file holds from a place on; returns the bytes
    that were there. Several threads can read one file.
    """
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, parts, offset)
    content = os.pread(descriptor, sum(part.nbytes for part in parts), offset)
    got = len(content)
    for part in parts:
        memory = memoryview(part).cast("B")
        memory[: len(content)] = content[: len(memory)]
        content = content[len(memory) :]
    return got
