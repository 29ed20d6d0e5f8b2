"""Names for a file that several processes may write at once, and what those left that are gone."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def own_side(path: Path) -> Path:
    """Where this process writes a file until it is whole."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.partial")


def remove_abandoned(path: Path) -> None:
    """Remove what processes of this machine that are gone left of the same cache."""
    for other in path.parent.iterdir():
        if other.name.startswith(f".{path.name}.{platform.node()}."):
            pid = other.suffixes[-2:-1]
            if pid and pid[0][1:].isdigit() and not _lives(int(pid[0][1:])):
                other.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
