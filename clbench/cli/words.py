"""Words of a command line as values: a text or a path as typed, anything else as YAML.

A field that is a text or a path takes its word as it is: ``#``, ``@``, ``*``, ``[``, ``:`` and
``null`` mean nothing in it. Where it may be a list, several words are one. An empty word is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from clbench.errors import ClbenchError, shown
from clbench.settings import kinds
from clbench.text.yamltext import read_text


def value_of(option: str, words: Sequence[str], annotations: Sequence[Any]) -> Any:
    """What the words after an option mean.

    Args:
        option: as it was typed, for messages.
        words: at least one.
        annotations: the types of the fields that the option may set; none if it is unknown here.

    Raises:
        ClbenchError: for words that do not fit, or text that is no YAML.
    """
    text = bool(annotations) and all(_is_text(one) for one in annotations)
    lists = text and all(takes(one, list, tuple) for one in annotations)
    if len(words) > 1:
        if not lists:
            raise ClbenchError(
                f"unexpected {shown(words[1])}: options start with --, see --help; {option} takes "
                "one value"
            )
        return list(words)
    word = words[0]
    if not text:
        return read_text(word, option)
    if not word:
        if not all(takes(one, NoneType) for one in annotations):
            raise ClbenchError(f"{option} needs a value: it is empty")
        return None
    if lists and not all(takes(one, str, Path) for one in annotations):
        return _as_list(word)
    return word


def _as_list(word: str) -> list[Any]:
    """Of a field that is always a list: ``[a, b]``, or its one element."""
    if word.startswith("[") and word.endswith("]"):
        try:
            values = read_text(word, "")
        except ClbenchError:
            return [word]
        if isinstance(values, list):
            return values
    return [word]


def _is_text(annotation: Any) -> bool:
    found = kinds(annotation)
    return bool(found & {str, Path}) and found <= {str, Path, NoneType}


def takes(annotation: Any, *types: type) -> bool:
    """Whether a field of a type may itself be one of some types; what is in it does not count."""
    origin = get_origin(annotation)
    if origin is Annotated or origin in (Union, UnionType):
        return any(
            takes(one, *types) for one in get_args(annotation)[: 1 if origin is Annotated else None]
        )
    return annotation in types or origin in types
