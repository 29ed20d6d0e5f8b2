"""Bounds on plain values, wherever they come from: checked before anything walks over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from clbench.errors import ClbenchError, shown
from clbench.text.yamltext import DEPTH, KEYS, NODES, WHOLE


def check_plain(values: Any, place: str = "") -> None:
    """Refuse what no settings hold, at any depth.

    Args:
        values: mappings, lists and scalars; anything else is left to whoever knows it.
        place: what they are, for messages.

    Raises:
        ClbenchError: for keys that are no text, control characters, numbers that are none or too
            large, and values that are too many or nested too deep.
    """
    left = NODES

    def look(value: Any, where: str, depth: int) -> None:
        nonlocal left
        left -= 1
        if depth > DEPTH:
            raise ClbenchError(f"{where[:80]}…: nested more than {DEPTH} levels deep")
        if left < 0:
            raise ClbenchError(f"{place or 'the recipe'} holds more than {NODES:,} values")
        if isinstance(value, Mapping):
            if len(value) > KEYS:
                raise ClbenchError(
                    f"{where or 'the recipe'}: a mapping of {len(value):,} keys is no setting; "
                    f"at most {KEYS:,} are read"
                )
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise ClbenchError(
                        f"{where or 'the recipe'}: key {shown(key)} is no text: put it into quotes"
                    )
                inside = f"{where}.{key}" if where else key
                _text(key, f"key {shown(key)}")
                look(inner, inside, depth + 1)
        elif isinstance(value, list | tuple):
            for inner in value:
                look(inner, where, depth + 1)
        else:
            _scalar(value, where)

    look(values, place, 0)


def _scalar(value: Any, where: str) -> None:
    if isinstance(value, str):
        _text(value, f"{where} = {shown(value)}")
    elif isinstance(value, float) and math.isnan(value):
        raise ClbenchError(f"{where} = nan: should be a number")
    elif isinstance(value, int) and abs(value) >= WHOLE:
        raise ClbenchError(f"{where} = {shown(value)}: too large for a whole number")


def _text(text: str, what: str) -> None:
    if any((c < " " and c not in "\t\n\r") or c == "\x7f" for c in text):
        raise ClbenchError(f"{what}: has control characters, which no setting needs")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ClbenchError(
            f"{what}: is no text in UTF-8; rename the file or folder if it is a path"
        ) from error
