"""A record and a recipe without the paths of the machine that they were made on.

What leaves a machine tells what was run, not where: of an absolute path, wherever it stands, its
last part is left, and of a recipe's loggers their names. What is left reads as a record
of the same run: nothing that decides its numbers is a path but the places of data and weights,
whose contents the record knows by their SHA-256.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from clbench.errors import ClbenchError
from clbench.files.disk import to_json
from clbench.record.record import Record
from clbench.text.yamltext import dump, read_text

#: Absolute paths within a text, of two parts at least: of POSIX, from a home, of Windows.
#: A slash behind a word or another slash begins none: ``a/b``, ``https://…``.
_PATH: Final = re.compile(
    r"""(?<![\w.~/\\])(?:~[\w.-]*/|/(?=[^\s/]+/)|[A-Za-z]:[\\/]|\\\\(?=\w))[^\s'"|]*"""
)
#: A text that is one path as a whole, blanks and all.
_WHOLE: Final = re.compile(r"(?:~[\w.-]*/|/(?=[^/])|file:///|[A-Za-z]:[\\/]|\\\\(?=\w))[^\n]*")
#: Names of the data's own, which may look like paths.
OWN_NAMES: Final = ("class_names",)
#: What a path is that has no last part.
NOTHING: Final = "-"
#: The section of a recipe that says who hears of a run, where, and under which name.
LOGGERS: Final = "loggers"


def redact_text(text: str) -> str:
    """A text with the last part of each absolute path in it.

    >>> redact_text("/home/me/my pics/train"), redact_text("see /data/a.csv, and a/b")
    ('train', 'see a.csv, and a/b')
    """
    if _WHOLE.fullmatch(text):
        return _last(text)
    return _PATH.sub(lambda found: _in_text(found[0]), text)


def redact(value: Any) -> Any:
    """Plain values with :func:`redact_text` for every text, all the way down; names stay.

    >>> redact({"train": ["/home/me/pics"], "size": 32})
    {'train': ['pics'], 'size': 32}
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {key: redact(inner) for key, inner in value.items()}
    return [redact(inner) for inner in value] if isinstance(value, list | tuple) else value


def redact_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's plain values without paths, and of its loggers the names alone."""
    told = dict(redact(values))
    if isinstance(told.get(LOGGERS), Mapping):
        told[LOGGERS] = {name: {} for name in told[LOGGERS]}
    return told


def redact_record(record: Record) -> str:
    """The text of ``record.jsonl`` without paths; lines that have none are as they were.

    Raises:
        ClbenchError: if the recipe in it is none.
    """
    return "".join(_line(event.text) for event in record.events)


def taken_out(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Dotted names of what redaction has changed or left out.

    >>> list(taken_out({"a": {"b": "/x/y"}, "c": 1}, {"a": {"b": "y"}, "c": 1}))
    ['a.b']
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key, value in before.items():
            inner = f"{place}.{key}" if place else str(key)
            if key in after:
                yield from taken_out(value, after[key], inner)
            else:
                yield inner
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple):
        if list(before) != list(after):
            yield place
    elif before != after:
        yield place


def _line(text: str) -> str:
    values = json.loads(text)
    kept = ("recipe", *OWN_NAMES)
    after = {key: value if key in kept else redact(value) for key, value in values.items()}
    if "recipe" in values:
        after["recipe"] = _recipe_text(values["recipe"])
    return text if after == values else to_json({key: after[key] for key in values}) + "\n"


def _recipe_text(recipe: str | None) -> str | None:
    if recipe is None:
        return None
    plain = read_text(recipe, "the recipe in record.jsonl", aliases=False)
    if not isinstance(plain, Mapping):
        raise ClbenchError("the recipe in record.jsonl is none: it must be a mapping")
    redacted = redact_recipe(plain)
    return recipe if redacted == plain else dump(redacted)


def _in_text(path: str) -> str:
    """The last part of a path within a text, with the stop or comma that ends the phrase."""
    whole = path.rstrip(".,;:)]}")
    return _last(whole) + path[len(whole) :]


def _last(path: str) -> str:
    parts = [part for part in re.split(r"[\\/]+", path.strip()) if part]
    return NOTHING if not parts or parts[-1] in ("~", "file:") or parts == [path[:2]] else parts[-1]
