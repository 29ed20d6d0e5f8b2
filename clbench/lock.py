"""One process at a time in a folder. The kernel lets go of the lock however the process ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from clbench.errors import ClbenchError

NAME = ".lock"


@contextmanager
def alone(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Keep other processes that ask for the same out of a folder, on every node that shares it.

    Where the file system has no locks, a line says so and nothing is kept out: a file in the place
    of a lock would outlive a process that is killed.

    Args:
        folder: it must exist.
        wait: seconds to wait for a process that is in it.

    Raises:
        ClbenchError: if another process is at work in the folder.
    """
    lock = FileLock(folder / NAME)
    try:
        lock.acquire(timeout=wait)
        if isinstance(lock, SoftFileLock):  # what filelock falls back to
            lock.release()
            raise NotImplementedError("no flock")
    except Timeout as error:
        raise ClbenchError(
            f"another process is at work in {folder}: wait for it to end, or stop it"
        ) from error
    except (OSError, NotImplementedError) as error:
        print(f"{folder} cannot be locked ({error}): let only one process work in it", flush=True)
    try:
        yield
    finally:
        lock.release()
