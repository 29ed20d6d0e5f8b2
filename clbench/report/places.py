"""Where runs lie: folders with a record, and the files of sweeps in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from clbench.errors import ClbenchError

#: Levels of folders below that which was named; deeper trees are nobody's runs.
DEEPEST = 50


def run_folders(places: Iterable[Path]) -> list[Path]:
    """The run folders in and below some folders, each once, in order.

    Raises:
        ClbenchError: if a folder is missing.
    """
    folders: dict[Path, None] = {}
    for place in places:
        if not place.is_dir():
            raise ClbenchError(f"there is no folder {place}")
        for folder in sorted(_holding(place)):
            folders[folder.resolve()] = None
    return list(folders)


def _holding(place: Path) -> Iterator[Path]:
    """Folders with something called ``record.jsonl``, whatever it is."""
    for name, folders, files in os.walk(place):
        if "record.jsonl" in files or "record.jsonl" in folders:
            yield Path(name)
        if len(Path(name).relative_to(place).parts) >= DEEPEST:
            folders.clear()


def sweep_files(folder: Path) -> list[Path]:
    """The files that sweeps left in a run folder."""
    return sorted(folder.glob("sweep-*.json"))[:20]
