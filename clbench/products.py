"""What a finished run leaves beside its record. A run has finished once all of it is there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

WEIGHTS, LOADER = "model.safetensors", "load_model.py"
NUMBERS = ("summary.json", "accuracy_matrix.csv", "curves.csv")
PICTURES = ("accuracy_matrix.png", "curves.png", "performance_and_retention.png")
PRODUCTS = (WEIGHTS, LOADER, *NUMBERS, *PICTURES)


def missing(folder: Path) -> list[str]:
    """The products that are not in a run folder."""
    return [name for name in PRODUCTS if not (folder / name).is_file()]


def lacking(folder: Path, events: Iterable[dict[str, Any]]) -> list[str]:
    """The products that are missing, but for those that could not be made when the run ended.

    Args:
        folder: the run folder.
        events: of the run's record.
    """
    known = {name for event in events if event["event"] == "end"
             for name in event.get("lacking", ())}  # fmt: skip
    return [name for name in missing(folder) if name not in known]
