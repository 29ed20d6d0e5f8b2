"""What lies in tar shards in the layout of WebDataset: where each image is, and its label.

Files whose names are equal up to the first dot of the last part are one sample: ``0001.jpg`` with
``0001.cls``, a number, or ``0001.json``, which has the label at a key. Nothing is unpacked, no
pickle is opened, and names lead nowhere, whatever they are.
"""

from __future__ import annotations

import io
import os
import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clbench.data.datasets.shard_labels import ShardLabel, label_of_cls, label_of_json
from clbench.data.decode import ENDINGS, PERHAPS
from clbench.data.members import PLACE, TarMembers
from clbench.data.words import spelt
from clbench.errors import ClbenchError

#: Bytes that an image, a .json, a .cls and what tar keeps before a file may have at most.
LARGEST, LARGEST_JSON, LARGEST_CLS, LARGEST_HEADER = 2**28, 2**20, 64, 2**20
PICKLES = {"pyd", "pickle", "pkl", "pth", "pt"}


@dataclass
class InShards:
    """What lies in shards.

    Attributes:
        places: where each image lies: shard, offset, size, and so on.
        labels: of each image, its place among ``values``.
        values: the labels that occur.
        passed: what is passed over, by kind: how often, and an example.
    """

    places: array[int] = field(default_factory=lambda: array("q"))
    labels: array[int] = field(default_factory=lambda: array("q"))
    values: dict[ShardLabel, int] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, place: tuple[int, int, int], label: ShardLabel) -> None:
        """One image."""
        self.places.extend(place)
        self.labels.append(self.values.setdefault(label, len(self.values)))

    def skip(self, kind: str, where: str) -> None:
        """Something that is no image of a class."""
        self.passed[kind] += 1
        self.examples.setdefault(kind, where)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Places (N,) of :data:`PLACE`, and labels (N,) int64."""
        flat = np.array(self.places, dtype=np.int64).reshape(-1, 3)
        places = np.empty(len(flat), dtype=PLACE)
        for column, name in enumerate(("shard", "offset", "size")):
            places[name] = flat[:, column]
        return places, np.array(self.labels, dtype=np.int64)


class _Headers(io.FileIO):
    """A shard, of which only headers are read; one that claims more is refused."""

    def read(self, size: int | None = -1, /) -> bytes:  # type: ignore[override]
        if size is None or not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError("a header that claims more than 1 MiB")
        return super().read(size)


@dataclass
class _Sample:
    key: str
    image: tuple[str, int, int] | None = None  # ending, offset, size
    cls: tarfile.TarInfo | None = None
    json: tarfile.TarInfo | None = None


def scan(shard: Path, number: int, image: str | None, label: str | None, found: InShards) -> None:
    """Add what lies in one shard.

    Args:
        shard: the file.
        number: its place among all.
        image: ending of the image of a sample, as in ``left.png``; None: any image's.
        label: ``cls``, or the key of ``.json``; None: ``cls``, and where there is none, ``label``.
        found: is added to.

    Raises:
        ClbenchError: if it is cut, damaged or compressed, if a file in it is too large or a
            pickle, if an image has no label, or a sample is there twice.
    """
    with _opened(shard) as file:
        reader = _Reader(shard, number, file, image, label, found)
        for info in _members(file, shard):
            reader.take(info)
        reader.end()
        reader.refuse_repeated()


def split(name: str) -> tuple[str, str]:
    """The key and the ending of a file in a shard.

    >>> split("train.v1/0001.Left.JPG"), split("a/readme")
    (('train.v1/0001', 'left.jpg'), ('a/readme', ''))
    """
    folder, slash, last = name.rpartition("/")
    key, _, ending = last.partition(".")
    return f"{folder}{slash}{key}", ending.lower()


def _opened(shard: Path) -> _Headers:
    try:
        file = _Headers(shard)
    except OSError as error:
        raise _damaged(shard, 0, error) from error
    start = os.pread(file.fileno(), 4, 0)
    if start[:2] == b"\x1f\x8b" or start in (b"BZh9", b"\xfd7zX", b"\x28\xb5\x2f\xfd"):
        file.close()
        raise ClbenchError(
            f"{spelt(shard)} is compressed, so that no image can be read by its place: decompress "
            "it (gunzip; images hardly shrink)"
        )
    return file


def _members(file: _Headers, shard: Path) -> Iterator[tarfile.TarInfo]:
    """All files of a shard; none is remembered.

    Raises:
        ClbenchError: if it does not end as it should.
    """
    tar: Any = None
    try:
        tar = tarfile.TarFile(fileobj=file, mode="r", errors="surrogateescape")
        while (info := tar.next()) is not None:
            tar.members.clear()
            if info.size < 0 or tar.offset <= info.offset:
                raise tarfile.ReadError("a file of negative size")
            yield info
        last = os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset)
        # tarfile takes a header that it cannot read for the end.
        if len(last) < tarfile.BLOCKSIZE or any(last):
            raise tarfile.ReadError("no mark of its end" if not last else "no header")
        behind = os.pread(file.fileno(), LARGEST_HEADER, tar.offset)
        if any(behind):
            raise tarfile.ReadError("something behind its end: archives go together by tar -A")
    except (OSError, tarfile.TarError, ValueError, RecursionError, OverflowError) as error:
        raise _damaged(shard, tar.offset if tar else 0, error) from error


def _damaged(shard: Path, offset: int, error: Exception) -> ClbenchError:
    why = (error.strerror if isinstance(error, OSError) else None) or str(error) or "no reason"
    return ClbenchError(
        f"{spelt(shard)} is damaged, cut or no tar archive, at byte {offset:,} ({why}): get it "
        "again, or pack it again"
    )


def _kind(info: tarfile.TarInfo) -> str | None:
    """What a member is that is no plain file of a sample; "" for a folder, None for a file."""
    if info.isdir():
        return ""
    if not info.isreg() or info.sparse is not None:
        return "links, devices and the like"
    if info.name.startswith("/") or ".." in info.name.split("/"):
        return "names that lead out of the shard"
    return "hidden files" if info.name.rpartition("/")[2].startswith(".") else None


@dataclass
class _Reader:
    """Puts samples together, in the order of the files."""

    shard: Path
    number: int
    file: _Headers
    image: str | None
    label: str | None
    found: InShards
    sample: _Sample = field(default_factory=lambda: _Sample(""))
    #: Hashes of the samples' names, 8 bytes each, as a shard may have a million.
    keys: array[int] = field(default_factory=lambda: array("q"))

    def take(self, info: tarfile.TarInfo) -> None:
        """The next file of the shard."""
        kind = _kind(info)
        if kind is not None:
            if kind:
                self.found.skip(kind, self.where(info.name))
            return
        key, ending = split(info.name)
        last = ending.rpartition(".")[2]
        if last in PICKLES:
            raise ClbenchError(
                f"{self.where(info.name)} is a pickle, which can run programs: pack the shards "
                "without it (an image with .cls or .json is all that is read)"
            )
        if key != self.sample.key:
            self.end()
            self.sample = _Sample(key)
        dotted = f".{last}"
        if ending == self.image or (not self.image and (dotted in ENDINGS or dotted in PERHAPS)):
            self._take_image(info, ending)
        elif ending == "cls" and self.label in (None, "cls"):
            self._refuse_second(self.sample.cls, info)
            self.sample.cls = info
        elif ending == "json" and self.label != "cls":
            self._refuse_second(self.sample.json, info)
            self.sample.json = info
        else:
            kind = f".{ending} files" if ending else "files without an ending"
            self.found.skip(kind, self.where(info.name))

    def _refuse_second(self, before: tarfile.TarInfo | None, info: tarfile.TarInfo) -> None:
        if before is not None:
            raise ClbenchError(
                f"{self.where(info.name)} is a second label of its sample: pack each sample once"
            )

    def _take_image(self, info: tarfile.TarInfo, ending: str) -> None:
        self._refuse_size(info, LARGEST)
        if self.sample.image is not None:
            raise ClbenchError(
                f"{self.where(info.name)} is a second image of its sample, beside "
                f".{self.sample.image[0]}: say which one it is by stream.image, or pack each "
                "sample once"
            )
        self.sample.image = (ending, info.offset_data, info.size)

    def end(self) -> None:
        """A sample is whole."""
        sample, where = self.sample, self.where(self.sample.key)
        if sample.image is None:
            if sample.cls or sample.json:
                self.found.skip("labels without an image", where)
            return
        label: ShardLabel | None = None
        if sample.cls:
            label = label_of_cls(
                self._content(sample.cls, LARGEST_CLS), self.where(sample.cls.name)
            )
        elif sample.json:
            content = self._content(sample.json, LARGEST_JSON)
            label = label_of_json(content, self.label or "label", self.where(sample.json.name))
        if label is None:
            raise ClbenchError(
                f"{where}.{sample.image[0]} has no label: pack a .cls with its number beside it, "
                "or a .json, with the key that stream.label names"
            )
        self.found.add((self.number, *sample.image[1:]), label)
        self.keys.append(hash(sample.key))

    def refuse_repeated(self) -> None:
        """All samples are whole: none may be there twice, perhaps with two labels."""
        hashes, counts = np.unique(np.array(self.keys, dtype=np.int64), return_counts=True)
        if (counts > 1).any():
            one = self.keys.index(int(hashes[counts > 1][0]))
            place = len(self.found.labels) - len(self.keys) + one
            members = TarMembers([self.shard] * (self.number + 1), self.found.arrays()[0])
            raise ClbenchError(
                f"{members.called(place)} is in the shard more than once (samples that are: "
                f"{(counts > 1).sum():,}): pack each sample once"
            )

    def where(self, name: str) -> str:
        """A file of the shard, for people."""
        return f"{spelt(self.shard)}: {spelt(name)}"

    def _content(self, info: tarfile.TarInfo, most: int) -> bytes:
        self._refuse_size(info, most)
        content = os.pread(self.file.fileno(), info.size, info.offset_data)
        if len(content) < info.size:
            raise _damaged(self.shard, info.offset, tarfile.ReadError("unexpected end of data"))
        return content

    def _refuse_size(self, info: tarfile.TarInfo, most: int) -> None:
        if not 0 < info.size <= most:
            raise ClbenchError(
                f"{self.where(info.name)} has {info.size:,} bytes, and may have 1 to {most:,}: "
                "pack the shard without it"
            )
