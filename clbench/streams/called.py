"""Classes as people call them: by name or by number."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence

from clbench.data.words import few
from clbench.errors import ClbenchError

#: A class, by its name or its number (its label in the data set, from 0).
Class = int | str


def usable(
    names: Sequence[str], pretrain_classes: Sequence[Class], leave_out: Sequence[Class]
) -> tuple[list[int], list[int]]:
    """Labels of the classes that tasks can learn, in label order, and of those set apart.

    Args:
        names: of the data set's classes, by label.
        pretrain_classes, leave_out: the stream's fields.

    Raises:
        ClbenchError: if they name classes that are not there, or one more than once.
    """
    apart = class_numbers(pretrain_classes, names, "stream.pretrain_classes")
    out = class_numbers(leave_out, names, "stream.leave_out")
    if len(set(apart)) < len(apart):
        raise ClbenchError(
            f"stream.pretrain_classes = {pretrain_classes} name a class more than once"
        )
    both = sorted(set(apart) & set(out))
    if both:
        raise ClbenchError(
            f"stream.pretrain_classes and stream.leave_out both name {few(both)}: a class is "
            "either set apart or not used"
        )
    return [c for c in range(len(names)) if c not in {*apart, *out}], apart


def class_numbers(classes: Sequence[Class], names: Sequence[str], field: str) -> list[int]:
    """Labels of classes that are given by name (text) or number.

    Args:
        classes: as the user gave them.
        names: of the data set's classes, by label.
        field: where they stand, for the message.

    Raises:
        ClbenchError: if there is no such class, or a number is also the name of another class.
    """
    by_name = {_normal(name): label for label, name in enumerate(names)}
    return [_number(one, names, by_name, field) for one in classes]


def _number(one: Class, names: Sequence[str], by_name: dict[str, int], field: str) -> int:
    if isinstance(one, str):
        if _normal(one) in by_name:
            return by_name[_normal(one)]
        near = difflib.get_close_matches(one, names, 1, 0.6)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ClbenchError(
            f"{field}: there is no class named {one!r}{hint}; the stream's are {few(names, 20)}"
        )
    if not 0 <= one < len(names):
        raise ClbenchError(
            f"{field}: there is no class with the number {one}, the stream's have the numbers "
            f"0…{len(names) - 1}"
        )
    called = [label for label, name in enumerate(names) if _is_number(name, one)]
    if called and one not in called:
        other = names[called[0]]
        raise ClbenchError(
            f"{field}: {one} could be the class named {other!r} or the class with the number "
            f"{one}, {names[one]!r}: name classes in quotes, as in ['{other}'], since some are "
            "called by numbers"
        )
    return one


def _is_number(name: str, number: int) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 20 and int(name) == number


def _normal(name: str) -> str:
    """Accents in one form: macOS takes them apart in the names of folders."""
    return unicodedata.normalize("NFC", name)
