"""One file of many: a zip laid out in one way only, so that nothing can hide in it.

Zip files can say a thing twice, in two places, and readers differ in whom they believe. Here every
header must be byte for byte what :func:`zipped` writes: no comments, no extra fields, no second
disk, no encryption, no links, no gaps and no overlaps. What is left to trust are names and sizes,
and both are bounded before anything is unpacked.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, final

from clbench.errors import ClbenchError
from clbench.text.names import wrong_name

#: Bytes of a submission, of all that is in it, and of one member; and how many there may be.
FILE, CONTENTS, MEMBER, MEMBERS = 32 << 20, 96 << 20, 16 << 20, 12_000
#: Bytes of a name; levels of folders.
NAME, DEEPEST = 200, 12
#: 1980-01-01, the first day that zip knows, as a time and a date.
_DATE = (1980, 1, 1, 0, 0, 0)
_TIME, _DAY = 0, 1 << 5 | 1
_UNIX, _VERSION, _DEFLATE, _MODE = 3, 20, 8, 0o100644
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s4B4H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_AGAIN = "a submission is the file that clbench pack has written, unchanged: pack the runs again"


@final
@dataclass(frozen=True)
class Extent:
    """Where a member lies, and what it claims to be."""

    start: int
    packed: int
    size: int
    crc: int


@final
@dataclass(frozen=True)
class Archive:
    """The members of a file, each unpacked when it is asked for.

    Attributes:
        content: of the file.
        members: by name, in the file's order.
    """

    content: bytes
    members: Mapping[str, Extent]

    def read(self, name: str) -> bytes:
        """What is in a member.

        Raises:
            ClbenchError: if it is not what its header says.
        """
        about = self.members[name]
        packed = memoryview(self.content)[about.start : about.start + about.packed]
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            made = stream.decompress(packed, about.size + 1)
        except zlib.error as error:
            raise ClbenchError(f"{name} is damaged ({error})") from error
        if len(made) != about.size or not stream.eof or stream.unused_data:
            raise ClbenchError(f"{name} does not have the {about.size:,} bytes that are declared")
        if zlib.crc32(made) != about.crc:
            raise ClbenchError(f"{name} is damaged: its checksum is another")
        return made


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A file of members, by name; the same members give the same bytes.

    Raises:
        ClbenchError: if they are more than :func:`unzipped` takes.
    """
    _refuse_more(len(members), sum(map(len, members.values())))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, allowZip64=False) as file:
        for name, content in members.items():
            if wrong := wrong_path(name):
                raise ClbenchError(f"{name!r:.100} cannot be a member: it {wrong}")
            if len(content) > MEMBER:
                _too_large(name, len(content))
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system, info.external_attr = _UNIX, _MODE << 16
            file.writestr(info, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    made = buffer.getvalue()
    if len(made) > FILE:
        raise ClbenchError(
            f"a submission of {len(made) / 1e6:,.1f} MB is more than {FILE / 1e6:.0f} MB: pack its "
            "runs into several"
        )
    return made


def unzipped(content: bytes) -> Archive:
    """The members of a file, within bounds; nothing is unpacked yet.

    Args:
        content: of the file, of at most :data:`FILE` bytes.

    Raises:
        ClbenchError: if it is not as :func:`zipped` writes it, with the reason.
    """
    if content[:4] != b"PK\3\4" or len(content) < _END.size:
        raise ClbenchError("it is no zip file")
    mark, disk, first, here, count, size, start, more = _END.unpack(content[-_END.size :])
    if mark != b"PK\5\6" or more or disk or first or here != count:
        raise ClbenchError(f"it is cut, or something was added to its end: {_AGAIN}")
    _refuse_more(count, 0)
    if start + size + _END.size != len(content):
        raise ClbenchError(f"its list of members is not where it should be: {_AGAIN}")
    members: dict[str, Extent] = {}
    place, end, total = start, 0, 0
    for _ in range(count):
        name, about, end, place = _member(content, place, end, start)
        if name in members:
            raise ClbenchError(f"{name!r:.100} is in it twice")
        members[name] = about
        total += about.size
        _refuse_more(count, total)
    if end != start or place != start + size:
        raise ClbenchError(f"it holds what no member is: {_AGAIN}")
    _refuse_doubles(members)
    return Archive(content, members)


def _member(content: bytes, place: int, begin: int, stop: int) -> tuple[str, Extent, int, int]:
    """A member, where it ends, and where the next line of the list begins.

    Args:
        content: of the file.
        place: of its line in the list.
        begin: where it must lie: behind the one before.
        stop: where the list begins.
    """
    try:
        line = _CENTRAL.unpack_from(content, place)
        head = _LOCAL.unpack_from(content, begin)
    except struct.error:
        raise ClbenchError(f"it is cut: {_AGAIN}") from None
    crc, packed, size, length = line[9:13]
    place += _CENTRAL.size
    raw = content[place : place + length]
    start = begin + _LOCAL.size + length
    shown = f"member {raw[:100]!r}"
    if line[:5] != (b"PK\1\2", _VERSION, _UNIX, _VERSION, 0):
        raise ClbenchError(f"{shown} was put there by another program: {_AGAIN}")
    if line[7:9] != (_TIME, _DAY) or line[13:15] != (0, 0):
        raise ClbenchError(f"{shown} was put there by another program: {_AGAIN}")
    if line[5] != 0 or line[6] != _DEFLATE:
        how = "encrypted" if line[5] & 1 else "packed in another way"
        raise ClbenchError(f"{shown} is {how}: {_AGAIN}")
    if line[15:] != (0, 0, _MODE << 16, begin):
        what = "a link or a folder" if line[17] >> 16 != _MODE else "not where it should be"
        raise ClbenchError(f"{shown} is {what}: {_AGAIN}")
    if head != (b"PK\3\4", _VERSION, *line[5:13], 0) or content[start - length : start] != raw:
        raise ClbenchError(f"{shown} is said to be two things, in two places: {_AGAIN}")
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        raise ClbenchError(f"{shown}: names are ASCII") from None
    if wrong := wrong_path(name):
        raise ClbenchError(f"{name!r:.100} cannot be a member: it {wrong}")
    if size > MEMBER:
        _too_large(name, size)
    if start + packed > stop:
        raise ClbenchError(f"{shown} is cut: {_AGAIN}")
    return name, Extent(start, packed, size, crc), start + packed, place + length


def wrong_path(name: str) -> str:
    """Why a text cannot be a member's name on every system, or nothing.

    >>> wrong_path("runs/0/record.jsonl"), wrong_path("runs/../x"), wrong_path("/x")
    ('', 'starts with a dot, which would hide its folder', 'is empty')
    """
    parts = name.split("/")
    if len(parts) > DEEPEST or len(name) > NAME:
        return "is too long, or too many folders deep"
    if any(character in ':*?"<>|' for character in name):
        return "has a character that not every system takes in a name"
    return next(filter(None, map(wrong_name, parts)), "")


def _refuse_doubles(members: Mapping[str, Extent]) -> None:
    """Names that some systems take for one, and files that are folders of others."""
    known: dict[str, str] = {}
    for name in members:
        other = known.setdefault(name.casefold(), name)
        if other != name:
            raise ClbenchError(f"{name!r:.100} and {other!r:.100} are one name on some systems")
    for name in known:
        parts = name.split("/")
        for count in range(1, len(parts)):
            if (above := "/".join(parts[:count])) in known:
                raise ClbenchError(f"{above!r:.100} is a file, and the folder of {name!r:.100}")


def _refuse_more(count: int, total: int) -> None:
    if count > MEMBERS or total > CONTENTS:
        what = f"{count:,} files" if count > MEMBERS else f"{total / 1e6:,.0f} MB"
        raise ClbenchError(
            f"{what} are more than a submission may hold ({MEMBERS:,}, {CONTENTS / 1e6:.0f} MB): "
            "pack its runs into several"
        )


def _too_large(name: str, size: int) -> NoReturn:
    raise ClbenchError(
        f"{name!r:.100} has {size / 1e6:,.1f} MB, more than {MEMBER / 1e6:.0f}: no run of "
        "less than thousands of tasks leaves as much"
    )
