"""Files that several processes may write at once, and what those left that are gone."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

from clbench.files.disk import atomic


def write_apart(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all, that other processes may write and nothing keeps out.

    Each writes under a name of its own, and the last one's file stays. What one that was killed has
    left is removed, where that can be.
    """
    with suppress(OSError):
        remove_abandoned(path)
    with atomic(path, own_side(path)) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def own_side(path: Path) -> Path:
    """Where this process writes a file until it is whole."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.partial")


def remove_abandoned(path: Path) -> None:
    """Remove what processes of this machine that are gone left of the same file."""
    for other in path.parent.iterdir():
        if other.name.startswith(f".{path.name}.{platform.node()}."):
            pid = other.suffixes[-2:-1]
            if pid and pid[0][1:].isdecimal() and not _lives(int(pid[0][1:])):
                other.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no process has so large a number
        return False
    except OSError:
        return True
    return True
