"""Files of a folder that anybody may have made, read within bounds: none can hang or fill memory.

Only plain files are opened (no link, pipe or device), of a bounded size, with a bounded number of
values and a bounded depth; YAML without aliases, which no run writes and which can stand for any
number of values.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from clbench.errors import ClbenchError
from clbench.explain import dotted_key
from clbench.text.yamltext import WHOLE, read_text

#: Bytes, values and depth that a file may have; a record of 200 tasks has a hundredth of them.
BYTES, VALUES, DEPTH = 64 << 20, 5_000_000, 50
#: Bytes of a recipe.
RECIPE_BYTES = 1 << 20
_HALF = re.compile("[\ud800-\udfff]")
_Shape = TypeVar("_Shape", bound=BaseModel)


def read(path: Path, most: int = BYTES) -> str:
    """The text of a plain file.

    Raises:
        ClbenchError: if it is none, is larger than ``most`` bytes, or is not UTF-8.
        OSError: if it cannot be read.
    """
    return _text(bytes_of(path, most), path.name)


def content_of(path: Path, times: int = 1) -> bytes:
    """What is in a file of JSON, or of lines of it, that may be read.

    Args:
        path: the file.
        times: how often the bounds it may have.

    Raises:
        ClbenchError: if it may not, with the reason.
        OSError: if it cannot be read.
    """
    content = bytes_of(path, times * BYTES)
    if values_in(content) > times * VALUES:
        raise ClbenchError(f"{path.name} holds over {times * VALUES:,} values")
    return content


def values_in(content: bytes) -> int:
    """As many values as JSON can hold at most, without its being parsed."""
    return sum(map(content.count, (b",", b"[", b"{")))


def bytes_of(path: Path, most: int) -> bytes:
    """What is in a plain file.

    Raises:
        ClbenchError: if it is none, or is larger than ``most`` bytes.
        OSError: if it cannot be read.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ClbenchError(f"{path.name} is no plain file but {_kind(path)}")
    # Should it be another file by now: no link is followed, and no pipe waited for.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        if size > most:
            raise ClbenchError(f"{path.name} has {size / 1e6:,.1f} MB, more than {most / 1e6:.0f}")
        return opened.read(most)


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ClbenchError(f"{name} is not UTF-8 (at byte {error.start:,})") from error


def json_of(path: Path) -> Any:
    """The values of a JSON file.

    Raises:
        ClbenchError: if it is none, or holds more than is read, with the reason.
        OSError: if it cannot be read.
    """
    return json_in(content_of(path), path.name)


def json_in(content: bytes, name: str, strict: bool = False) -> Any:
    """The values of JSON, as :func:`json_of` has them.

    Args:
        content: within bounds, as :func:`content_of` gives it.
        name: for messages.
        strict: refuse NaN, infinities and keys that are given twice too.

    Raises:
        ClbenchError: if it is none, or holds what is not read, with the reason.
    """
    text = _text(content, name)
    try:
        if strict:
            values = json.loads(text, parse_constant=no_number, object_pairs_hook=once)
        else:
            values = json.loads(text)
    except RecursionError as error:
        raise ClbenchError(f"{name} is nested too deeply") from error
    except ValueError as error:
        raise ClbenchError(f"{name} is no JSON: {error}") from error
    tame(values, name)
    return values


def no_number(name: str) -> NoReturn:
    """For ``json.loads``: JSON has no NaN and no infinities.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{name} is no number")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json.loads``: an object whose keys are given once each.

    Raises:
        ValueError: for one that is given again: readers differ in which value they take.
    """
    made = dict(pairs)
    if len(made) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {counts.most_common(1)[0][0]!r:.60} is given twice")
    return made


def yaml_of(path: Path) -> Any:
    """The values of a YAML file, as :func:`~clbench.text.yamltext.read_text` has them.

    Raises:
        ClbenchError: if it is none, or holds more than is read, with the reason.
        OSError: if it cannot be read.
    """
    return yaml_in(read(path, RECIPE_BYTES), path.name)


def yaml_in(text: str, name: str) -> Any:
    """The values of a text of YAML, within the same bounds.

    Raises:
        ClbenchError: as :func:`yaml_of`.
    """
    values = read_text(text, name, aliases=False)
    tame(values, name)
    return values


def tame(values: Any, name: str) -> None:
    """Refuse what later steps cannot take: deep nests, huge whole numbers, dates, halves of text.

    Raises:
        ClbenchError: if there is one.
    """
    waiting = [(values, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEPTH:
            raise ClbenchError(f"{name} is nested deeper than {DEPTH} levels")
        if isinstance(value, dict):
            waiting += [(inner, depth + 1) for inner in (*value.keys(), *value.values())]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]
        elif isinstance(value, int) and abs(value) >= WHOLE:
            raise ClbenchError(f"{name} holds a whole number of {value.bit_length()} bits")
        elif isinstance(value, str) and not value.isascii() and _HALF.search(value):
            raise ClbenchError(f"{name} holds half a character")
        elif value is not None and not isinstance(value, str | int | float):
            raise ClbenchError(f"{name} holds a {type(value).__name__}, which no run writes")


def fit(shape: type[_Shape], values: Any, name: str) -> _Shape:
    """Values as what they should be.

    Raises:
        ClbenchError: if they are not, naming the field, the value and the reason.
    """
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = dotted_key([str(part)[:60] for part in first["loc"]])
        value = "" if first["type"] == "missing" else f" = {_shown(first['input'])}"
        raise ClbenchError(f"{name}: {where}{value}: {first['msg']}") from error
    except RecursionError as error:
        raise ClbenchError(f"{name} is nested too deeply") from error


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return f"{'{…}' if isinstance(value, dict) else '[…]'} of {len(value)}"
    return f"{value!r:.60}"


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")
