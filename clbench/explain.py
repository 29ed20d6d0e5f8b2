"""A user's mistake in a recipe, as one line: the key, the value, the reason, the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from clbench.errors import ClbenchError, shown
from clbench.text.plain import check_plain

_Settings = TypeVar("_Settings", bound=BaseModel)
Owners = Callable[[str], Sequence[str]]

#: Pydantic's words for these are a programmer's, by the type of the error.
PLAINER = {
    "dict_type": "should be a mapping of keys to values",
    "model_type": "should be a mapping of keys to values",
    "path_type": "should be a path",
    "list_type": "should be a list, as in [a, b]",
    "tuple_type": "should be a list, as in [a, b]",
    "int_parsing_size": "is too large for a whole number",
}
#: What pydantic puts behind a place in a union: the names of the types that were tried.
TRIED = re.compile(r"bool|int|float|str|path|none|\w+\[.*|(function|constrained|lax|json|is)-.*")
#: Mistakes that are told at once.
MOST = 3


def nearest(name: str, known: Sequence[str]) -> str:
    """`` (did you mean …?)`` for the known name nearest to a wrong one, or nothing.

    Args:
        name: the wrong name.
        known: right ones; of dotted names, the last part counts too. Of several, the one with the
            fewest parts is meant, then the first.
    """
    last: dict[str, str] = {}
    for key in sorted(known, key=lambda key: key.count(".")):
        last.setdefault(key.rsplit(".", 1)[-1], key)
    near = difflib.get_close_matches(name[:100], [*known, *last], 1, 0.62)
    meant = near and (near[0] if near[0] in known else last[near[0]])
    return f" (did you mean {meant}?)" if meant and meant != name else ""


def explain_all(
    errors: Iterable[ErrorDetails], known: Sequence[str], owners: Owners = lambda _: []
) -> str:
    """The first of pydantic's errors in a user's words, in one line.

    Args:
        errors: the errors; those of one place (a union's) are told together.
        known: all dotted keys that the settings can have.
        owners: the streams that have a field; none if all have it.
    """
    told: dict[str, list[str]] = {}
    for error in islice(errors, 50):
        place, message = explain(error, known, owners)
        told.setdefault(place, []).append(message)
    lines = [place + ", or ".join(dict.fromkeys(messages)) for place, messages in told.items()]
    return "; ".join(lines[:MOST])


def explain(error: ErrorDetails, known: Sequence[str], owners: Owners) -> tuple[str, str]:
    """Where one of pydantic's errors is, with the value, and what is wrong.

    Args:
        error: the error.
        known: all dotted keys that the settings can have.
        owners: see :func:`explain_all`.
    """
    place = _place(error, known)
    if error["type"] == "extra_forbidden":
        return f"unknown key {place}", _right_key(place, known, owners)
    if error["type"] == "missing":
        return place, " is missing"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = PLAINER.get(error["type"], message)
    given = error.get("input")
    value = f" = {shown(given)}" if isinstance(given, str | int | float | bool | list) else ""
    return (f"{place}{value}: ", message) if place else ("", message)


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
            # Without a context the message is no template: braces in it stay as they are.
            message = PLAINER.get(line["type"], line["msg"])
            kind = PydanticCustomError("value", message)  # type: ignore[arg-type]
        lines.append({"type": kind, "loc": (name, *line["loc"]), "input": line["input"]})
    return ValidationError.from_exception_data(title, lines)


def read_section(kind: type[_Settings], values: Any, name: str) -> _Settings:
    """Settings that stand by themselves, from plain values.

    Args:
        kind: of the settings.
        values: as read from YAML.
        name: what they are called in messages.

    Raises:
        ClbenchError: one line naming the key, the value and the reason.
    """
    check_plain(values, name)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        known = [f"{name}.{field}" for field in kind.model_fields]
        raise ClbenchError(explain_all(within(name, name, error).errors(), known)) from error


def _place(error: ErrorDetails, known: Collection[str]) -> str:
    """The dotted key, without the names of a union's types that pydantic puts behind it."""
    parts = [str(part) for part in error["loc"]]
    known = set(known)
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in known:
            rest = [part for part in parts[end:] if not TRIED.fullmatch(part)]
            return ".".join([*parts[:end], *rest])
    return dotted_key(error["loc"])


def dotted_key(loc: Sequence[int | str]) -> str:
    """The dotted key of a place as pydantic has it, without the names of a union's types."""
    first, *rest = [str(part) for part in loc] or [""]
    return ".".join([first, *(part for part in rest if not TRIED.fullmatch(part))])


def _right_key(place: str, known: Sequence[str], owners: Owners) -> str:
    section, _, leaf = place.rpartition(".")
    if section == "stream" and (having := owners(leaf)):
        return f": it is a field of {', '.join(having)}, not of this stream"
    if place in known:  # of another stream or method
        return f": {section}.name decides which keys there are; see --help"
    same = [key for key in known if key.rsplit(".", 1)[-1] == leaf]
    same.sort(key=lambda key: (not key.startswith(f"{section}."), key.count(".")))
    if same:
        return f" (did you mean {same[0]}?)"
    siblings = [key for key in known if key.rpartition(".")[0] == section]
    return nearest(place, siblings) or nearest(leaf, known)
