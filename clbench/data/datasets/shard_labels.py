"""What a label in a shard may be: the number of a class, or its name."""

from __future__ import annotations

import json

from clbench.errors import ClbenchError, shown

#: A class, as shards name it.
ShardLabel = int | str


def label_of_cls(content: bytes, where: str) -> int:
    """The number in a .cls.

    Args:
        content: of the file.
        where: it lies, for the message.

    Raises:
        ClbenchError: if it is none.
    """
    text = content.strip()
    if not text.isdigit() or len(text) > 9:
        raise ClbenchError(
            f"{where} holds {shown(text[:20])}, and not the number of a class: pack names of "
            "classes in .json, and say their key by stream.label"
        )
    return int(text)


def label_of_json(content: bytes, key: str, where: str) -> ShardLabel | None:
    """What a .json has at a key; None if it has no such key.

    Args:
        content: of the file.
        key: of the label.
        where: it lies, for the message.

    Raises:
        ClbenchError: if it is no JSON, or what it has is no label.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ClbenchError(f"{where} is no JSON ({shown(str(error)[:60])}): pack it again") from (
            error
        )
    value = values.get(key) if isinstance(values, dict) else None
    if value is not None and not is_label(value):
        raise ClbenchError(
            f"{where} has the label {shown(value)} at {shown(key)}, which is neither a number from "
            "0 nor a name in one line: name another key by stream.label"
        )
    return value


def is_label(label: object) -> bool:
    """Whether a label can be that of a class: a number from 0, or a name in one line."""
    if isinstance(label, str):
        return 0 < len(label) <= 200 and label.isprintable()
    return type(label) is int and 0 <= label < 10**9
