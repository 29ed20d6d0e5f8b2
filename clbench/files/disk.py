"""Files that are whole or not there, that never lead out of their folder, and disks that refuse."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from clbench.errors import ClbenchError

#: What a file is called while it is written.
SIDE = ".{}.partial"
_WAYS = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EFBIG: "raise the largest size of a file (ulimit -f)",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.ENOENT: "put the folder back",
    errno.ENOTDIR: "put the folder back",
    errno.ESTALE: "put the folder back",
    errno.ELOOP: "put a file of the run's own in the place of the link",
}
#: Errors of a disk whatever was written; a write that fails does not always name its file.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ESTALE, errno.EIO}
#: What file systems say that have no way to sync a folder.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF}


def write_atomic(path: Path, content: str | bytes, wait: bool = True) -> None:
    """Write a file so that it is there whole or not at all; text is UTF-8.

    Args:
        path: the file.
        content: of it.
        wait: until it is on the disk; without, a loss of power may leave it empty, which is fine
            for what is looked at and made again.
    """
    with atomic(path, wait=wait) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic(path: Path, side: Path | None = None, wait: bool = True) -> Iterator[IO[bytes]]:
    """Opens a file to write that takes its place only when it is whole and on the disk.

    It is written under another name, :data:`SIDE`, which is made anew: whatever stood there, a
    link that leads elsewhere, say, is taken away and not written through. What cannot be finished
    is removed.

    Args:
        path: the file.
        side: the other name, where several processes may write the file at once; each has its own.
        wait: until it is on the disk.
    """
    side = side or path.with_name(SIDE.format(path.name))
    try:
        side.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(side, flags, 0o666), "wb") as file:
            yield file
            file.flush()
            if wait:
                os.fsync(file.fileno())
        os.replace(side, path)
        if wait:
            sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            side.unlink(missing_ok=True)
        _name(error, path)
        raise


def append(path: Path, text: str, wait: bool = True) -> None:
    """Add to a file that is there; what could not be added whole is not there at all.

    Args:
        path: the file.
        text: to add.
        wait: until it is on the disk; without, :func:`sync_file` does.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        try:
            before = os.fstat(descriptor).st_size
            try:
                left = memoryview(text.encode())
                while left:
                    left = left[os.write(descriptor, left) :]
                if wait:
                    os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        _name(error, path)
        raise


def sync_file(path: Path) -> None:
    """Have what was written to a file on the disk, whoever wrote it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        _name(error, path)
        raise


def sync(folder: Path) -> None:
    """Have the names in a folder on the disk, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON of plain values.

    Raises:
        ClbenchError: if a number is NaN or infinite, which JSON does not have; names the place.
    """
    try:
        return json.dumps(value, allow_nan=False, indent=indent)
    except ValueError as error:
        place, number = next(_not_finite(value), ("a value", None))
        raise ClbenchError(
            f"{place} = {number} is no number that can be kept: lower optimizer.lr or what else "
            "makes a run diverge, and run again"
        ) from error


def recordable(value: Any) -> Any:
    """What JSON can hold: None in the place of numbers that are not finite, all the way down."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: recordable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [recordable(inner) for inner in value]
    return value


def refuse_links(folder: Path) -> None:
    """Refuse a run folder from which links lead away: a run writes into nothing but its folder.

    Raises:
        ClbenchError: naming the link.
    """
    root = Path(os.path.realpath(folder))
    for place in (folder, folder / "checkpoints", folder / "csv"):
        if place.is_dir():
            for entry in os.scandir(place):
                if entry.is_symlink():
                    end = Path(os.path.realpath(entry.path))
                    if not end.is_relative_to(root):
                        raise ClbenchError(
                            f"{entry.path} is a link to {str(end)!r}, out of the run folder: put "
                            "the file itself there, or remove the link"
                        )


@contextmanager
def writing_to(
    folder: Path, then: str, elsewhere: str = "choose another --output"
) -> Iterator[None]:
    """Turns what the disk refuses below a folder into the user's one line.

    Args:
        folder: the run folder.
        then: what to do once the disk is in order.
        elsewhere: what to do without it.

    Raises:
        ClbenchError: in the place of an OSError about the folder, or about a disk that is full,
            gone or read-only.
    """
    try:
        yield
    except OSError as error:
        named = [str(name) for name in (error.filename2, error.filename) if name is not None]
        inside = [name for name in named if _below(name, folder)]
        if not inside and (named or error.errno not in _FULL):
            raise
        way = _WAYS.get(error.errno or 0, "see to the disk")
        raise ClbenchError(
            f"{inside[0] if inside else folder}: {error.strerror or error}: {way}, then {then}; "
            f"or {elsewhere}"
        ) from error


def _below(name: str, folder: Path) -> bool:
    return Path(os.path.abspath(name)).is_relative_to(os.path.abspath(folder))


def _name(error: BaseException, path: Path) -> None:
    """Give the error of a write, which names no file, its file."""
    if isinstance(error, OSError) and error.filename is None and error.errno is not None:
        error.filename = str(path)


def _not_finite(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield place or "a value", value
    items: Iterable[tuple[object, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, inner in items:
        yield from _not_finite(inner, f"{place}.{key}" if place else str(key))
