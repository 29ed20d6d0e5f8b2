"""What is in files: the SHA-256 of every one, remembered so that a warm start need not read them.

A file is taken to be unchanged if its size, times of change and inode are. The time of the last
change of the inode (ctime) is set by the kernel and cannot be put back, so that a file that was
replaced by one of equal size and modification time is found. Clocks are coarse: a file that was
changed shortly before it was read is read again the next time.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np

from clbench.data.decode import BadImages
from clbench.data.members import File, Members
from clbench.files.disk import atomic

ROW = np.dtype(
    [
        ("size", "<i8"),
        ("modified", "<i8"),
        ("changed", "<i8"),
        ("inode", "<u8"),
        ("read", "<i8"),
        ("digest", "u1", 32),
    ]
)
FACTS = ["size", "modified", "changed", "inode"]
#: So long before it is read a file must have been left alone for its times to be trusted.
SETTLED = 2 * 10**9
SUM = 32  # bytes of SHA-256 at the end of a table


def digests(
    paths: Sequence[File], table: Path | None = None, workers: int = 4, reread: bool = True
) -> np.ndarray | None:
    """SHA-256 of the contents of files, uint8 (N, 32).

    Args:
        paths: the files, or images in shards, whose shards are looked at for a change.
        table: remembers them; made if it can be.
        workers: threads that read.
        reread: False gives None where files would have to be read.

    Raises:
        BadImages: if files are not there, cannot be read, or are no plain files; it names all.
    """
    rows = facts(paths)
    known = _load(table, len(paths)) if table is not None else None
    stale = np.ones(len(paths), dtype=bool)
    if known is not None:
        rows["read"], rows["digest"] = known["read"], known["digest"]
        stale = ~unchanged(rows, known, settled=reread)
    if stale.any():
        if not reread:
            return None
        _read(paths, rows, np.flatnonzero(stale), workers)
        if table is not None:
            with suppress(OSError):  # it only saves time
                _save(rows, table)
    return np.ascontiguousarray(rows["digest"])


def unchanged(now: np.ndarray, known: np.ndarray, settled: bool = True) -> np.ndarray:
    """Which files are as they were when they were read, bool (N,).

    Args:
        now: what :func:`facts` says of them.
        known: the same of before, with the time at which they were read.
        settled: whether files do not count that had been changed shortly before; a look from
            outside, which decides nothing, may have them count.
    """
    same = np.logical_and.reduce([now[fact] == known[fact] for fact in FACTS])
    return same & ((now["changed"] < known["read"] - SETTLED) | (not settled))


def table_path(paths: Sequence[File], folder: Path, name: str) -> Path:
    """Where :func:`digests` of these files are remembered in a cache folder."""
    if isinstance(paths, Members):
        listed = paths.key()
    else:
        listed = b"\0".join(os.fsencode(Path(str(path)).absolute()) for path in paths)
    return folder / f"{name}-{hashlib.sha256(listed).hexdigest()[:12]}.sha256"


def joined(digests: np.ndarray, about: str = "") -> str:
    """One SHA-256 of many, uint8 (N, 32), and of what else decides."""
    return hashlib.sha256(about.encode() + np.ascontiguousarray(digests).tobytes()).hexdigest()


def write_whole(path: Path, parts: Sequence[bytes]) -> None:
    """Write a file that is either there and whole or not there, also after a loss of power."""
    with atomic(path, path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")) as file:
        file.writelines(parts)


def facts(paths: Sequence[File]) -> np.ndarray:
    """What tells whether files were changed, (N,) of :data:`ROW` without digests.

    Raises:
        BadImages: if files are not there, or are no plain files; it names all.
    """
    if isinstance(paths, Members):
        return facts(paths.shards)[paths.places["shard"]]
    rows = np.zeros(len(paths), dtype=ROW)
    bad: list[tuple[File | str, str]] = []
    for number, path in enumerate(paths):
        try:
            found = os.stat(str(path))
        except OSError as error:
            bad.append((path, _why(error, path)))
            continue
        if not stat.S_ISREG(found.st_mode):  # to open a pipe would wait for ever
            bad.append((path, "not a plain file"))
        inode = found.st_ino % 2**64
        rows[number] = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, inode, 0, 0)
    if bad:
        raise BadImages(bad)
    return rows


def _read(paths: Sequence[File], rows: np.ndarray, numbers: np.ndarray, workers: int) -> None:
    bad: list[tuple[File | str, str]] = []

    def read(chunk: np.ndarray) -> None:
        now, found = time.time_ns(), []
        for path in (paths[number] for number in chunk.tolist()):
            content = b""
            try:
                content = path.read_bytes()
                if not content:
                    bad.append((path, "an empty file"))
            except OSError as error:
                bad.append((path, _why(error, path)))
            found.append(hashlib.sha256(content).digest())
        rows["read"][chunk] = now
        rows["digest"][chunk] = np.frombuffer(b"".join(found), np.uint8).reshape(-1, SUM)

    pool = ThreadPoolExecutor(max(workers, 1))
    try:
        list(pool.map(read, np.array_split(numbers, -(-len(numbers) // 64))))
    finally:  # Ctrl-C does not wait for what has not begun
        pool.shutdown(cancel_futures=True)
    if bad:
        raise BadImages(sorted(bad, key=lambda one: str(one[0])))


def _why(error: OSError, path: File) -> str:
    if isinstance(path, Path) and path.is_symlink() and isinstance(error, FileNotFoundError):
        return "a link to a file that is not there"
    return error.strerror or type(error).__name__


def _load(table: Path, count: int) -> np.ndarray | None:
    """The rows of a table; None if there is none, or it is damaged."""
    if not table.is_file():  # a pipe would be waited at for ever
        return None
    try:
        content = table.read_bytes()
    except OSError:
        return None
    body = content[:-SUM]
    if len(body) != count * ROW.itemsize or hashlib.sha256(body).digest() != content[-SUM:]:
        return None
    return np.frombuffer(body, dtype=ROW)


def _save(rows: np.ndarray, table: Path) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    body = rows.tobytes()
    write_whole(table, [body, hashlib.sha256(body).digest()])
