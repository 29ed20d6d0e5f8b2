"""One process at a time in a folder. The kernel lets go of the lock however the process ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clbench.errors import ClbenchError

NAME = ".lock"
#: Seconds between two tries, and seconds of waiting before a line says so.
POLL, QUIET = 0.05, 2.0

_held: set[int] = set()


def _forget() -> None:
    """A lock belongs to an open file: a forked child that outlives us would go on holding it."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def alone(folder: Path, wait: float = 0.0, name: str = NAME) -> Iterator[None]:
    """Keep other processes that ask for the same out of a folder, on every node that shares it.

    Where the file system has no locks, a line says so and nothing is kept out: a file in the place
    of a lock would outlive a process that is killed.

    Args:
        folder: it must exist.
        wait: seconds to wait for a process that is in it.
        name: of the file that is locked; it stays.

    Raises:
        ClbenchError: if another process is at work in the folder.
        OSError: if the file cannot be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(folder / name, flags, 0o666)
    _held.add(descriptor)
    try:
        if not _lock(descriptor, folder, wait):
            raise ClbenchError(
                f"another process is at work in {folder}: wait for it to end, or stop it"
            )
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, wait: float) -> bool:
    """Whether the lock was had, or there are none."""
    began, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            waited = time.monotonic() - began
            if waited >= wait:
                return False
            if waited > QUIET and not told:
                print(f"Waiting for another process at work in {folder}.", flush=True)
                told = True
            time.sleep(POLL)
        except OSError as error:
            print(
                f"{folder} cannot be locked ({error}): let only one process work in it", flush=True
            )
            return True
