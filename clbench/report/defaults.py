"""What the recipe's classes say, kept in a file: reports do without them, and without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

PLACE = Path(__file__).with_name("defaults.json")


def of_recipe() -> dict[str, Any]:
    """The defaults of a recipe's keys, those of the methods included."""
    return _table()["recipe"]


def of_stream(name: str) -> dict[str, Any]:
    """The defaults of a stream's keys."""
    return _table()["streams"].get(name, {})


def traits_of(method: str) -> Sequence[str] | None:
    """What a method says of itself; None if it is unknown."""
    return _table()["traits"].get(method)


@cache
def _table() -> dict[str, dict[str, Any]]:
    return json.loads(PLACE.read_text("utf-8"))
