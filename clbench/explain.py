"""A user's mistake in a recipe, as one line: the key, the value, the reason, the way out."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError


def nearest(name: str, known: Sequence[str]) -> str:
    """`` (did you mean …?)`` for the known name nearest to a wrong one, or nothing.

    Args:
        name: the wrong name.
        known: right ones; of dotted names, the last part counts too.
    """
    last = {key.rsplit(".", 1)[-1]: key for key in reversed(known)}
    near = difflib.get_close_matches(name, [*known, *last], 1, 0.6)
    return f" (did you mean {last.get(near[0], near[0])}?)" if near else ""


def explain(error: ErrorDetails, known: Sequence[str]) -> str:
    """One of pydantic's errors in a user's words.

    Args:
        error: the error.
        known: all dotted keys that a recipe can have.
    """
    # Pydantic adds the tried types of a union to the path; they mean nothing to a user.
    parts = [str(part) for part in error["loc"] if not set(str(part)) & set("-[")]
    place = ".".join(parts)
    if error["type"] == "extra_forbidden":
        return f"unknown key {place}{_right_key(place, known)}"
    if error["type"] == "missing":
        return f"{place} is missing"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = error.get("input")
    shown = f" = {given!r}" if isinstance(given, str | int | float | bool | list) else ""
    return f"{place}{shown}: {message}" if place else message


def within(name: str, title: str, error: ValidationError) -> ValidationError:
    """The same errors, one level down: ``p`` becomes ``name.p``.

    Args:
        name: the key to put before each place.
        title: of the model that was being read.
        error: the errors.
    """
    lines: list[InitErrorDetails] = []
    for line in error.errors():
        kind: str | PydanticCustomError = line["type"]
        if kind not in ("extra_forbidden", "missing"):
            message = line["msg"].replace("{", "{{").replace("}", "}}")
            kind = PydanticCustomError("value", message)  # type: ignore[arg-type]
        lines.append({"type": kind, "loc": (name, *line["loc"]), "input": line["input"]})
    return ValidationError.from_exception_data(title, lines)


def _right_key(place: str, known: Sequence[str]) -> str:
    from clbench.streams import owners  # PyTorch takes seconds

    section, _, leaf = place.rpartition(".")
    if section == "stream" and (having := owners(leaf)):
        return f": it is a field of {', '.join(having)}, not of this stream"
    same = [key for key in known if key.rsplit(".", 1)[-1] == leaf]
    siblings = [key for key in known if key.rpartition(".")[0] == section]
    return nearest(leaf, same) or nearest(place, siblings) or nearest(leaf, known)
