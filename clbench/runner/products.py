"""What a finished run leaves beside its record. A run has finished once all of it is there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from clbench.record.events import EndEvent, Event

WEIGHTS, LOADER = "model.safetensors", "load_model.py"
SUMMARY, MATRIX, CURVES = NUMBERS = ("summary.json", "accuracy_matrix.csv", "curves.csv")
#: Each is a figure of its name, see :mod:`clbench.report.figures`.
PICTURES = ("accuracy_matrix.png", "curves.png", "performance_and_retention.png")
PRODUCTS = (WEIGHTS, LOADER, *NUMBERS, *PICTURES)


def missing(folder: Path) -> list[str]:
    """The products that are not in a run folder, or not whole."""
    return [name for name in PRODUCTS if not _is_whole(folder / name)]


def _is_whole(path: Path) -> bool:
    """Whether a product is a file that was not cut off, by its length."""
    try:
        size = path.stat().st_size if path.is_file() else 0
        if path.name != WEIGHTS or not size:
            return size > 0
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= size else {}
        ends = [part["data_offsets"][1] for name, part in header.items() if name != "__metadata__"]
        return bool(size == 8 + length + max(ends, default=0))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def missing_products(folder: Path, events: Iterable[Event]) -> list[str]:
    """The products that are missing, but for those that could not be made when the run ended.

    Args:
        folder: the run folder.
        events: of the run's record.
    """
    known = {name for event in events if isinstance(event, EndEvent) for name in event.lacking}
    return [name for name in missing(folder) if name not in known]
