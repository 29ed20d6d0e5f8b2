"""Images in archives, read where they lie: nothing is unpacked, nothing is loaded but one image."""

from __future__ import annotations

import errno
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, overload

import numpy as np

#: Where one image lies: the shard, and in a tar archive the place and number of its bytes.
PLACE = np.dtype([("shard", "<u4"), ("offset", "<i8"), ("size", "<u4")])


@dataclass(frozen=True)
class Member:
    """One image of :class:`Members`, used as its path would be; final."""

    members: Members
    number: int

    def __str__(self) -> str:
        return self.members.called(self.number)

    def read_bytes(self) -> bytes:
        """What is in the image file.

        Raises:
            OSError: if it cannot be read.
        """
        return self.members.read(self.number)

    def exists(self) -> bool:
        """Always: it was found."""
        return True


#: An image file, wherever it lies.
File = Path | Member


class Members(Sequence[Member], ABC):
    """N images in shards, in their order; abstract.

    Args:
        shards: the files they lie in.
        places: where each lies, (N,) of :data:`PLACE`.
    """

    #: Whether one can be read without those around it.
    apart: ClassVar[bool] = True

    def __init__(self, shards: Sequence[Path], places: np.ndarray) -> None:
        self.shards, self.places = tuple(shards), places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, number: int) -> Member: ...
    @overload
    def __getitem__(self, number: slice) -> Members: ...
    def __getitem__(self, number: int | slice) -> Member | Members:
        if isinstance(number, slice):
            return self.pick(np.arange(len(self))[number])
        if not -len(self) <= number < len(self):
            raise IndexError(number)  # by which a loop over them ends
        return Member(self, number % len(self))

    @abstractmethod
    def pick(self, numbers: np.ndarray) -> Members:
        """Some of them, by their numbers, int64 (n,), in that order."""

    @abstractmethod
    def read(self, number: int) -> bytes:
        """What is in one image file.

        Raises:
            OSError: if it cannot be read.
        """

    @abstractmethod
    def called(self, number: int) -> str:
        """The shard and the name of one, for people."""

    def key(self) -> bytes:
        """Which images of which shards these are, by their paths and places."""
        listed = b"\0".join(os.fsencode(path.absolute()) for path in self.shards)
        return listed + np.ascontiguousarray(self.places).tobytes()

    def path(self, number: int) -> Path:
        """The shard that one lies in."""
        return self.shards[int(self.places["shard"][number])]


class TarMembers(Members):
    """Images in tar archives, which are not compressed: each is read by its place; final."""

    def pick(self, numbers: np.ndarray) -> TarMembers:
        """See :meth:`Members.pick`."""
        return TarMembers(self.shards, self.places[numbers])

    def read(self, number: int) -> bytes:
        """See :meth:`Members.read`."""
        place = self.places[number]
        content = self._read(number, int(place["offset"]), int(place["size"]))
        if len(content) < place["size"]:
            raise OSError(errno.EIO, "the shard ends inside it: get the shard again")
        return content

    def called(self, number: int) -> str:
        """See :meth:`Members.called`; of a long name, its beginning."""
        offset = int(self.places["offset"][number])
        try:
            header = self._read(number, offset - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE)
            name = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name
        except (OSError, tarfile.TarError):
            name = f"byte {offset:,}"
        return f"{self.path(number)}: {name}"

    def _read(self, number: int, offset: int, count: int) -> bytes:
        with self.path(number).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), count, offset)
