"""Lines for people about files: names as they can be printed, and notes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from clbench.errors import ClbenchError
from clbench.processes.processes import is_first


def spelt(path: object) -> str:
    r"""A path, or what else is named, in one line that can be printed, whatever bytes are in it.

    >>> spelt("a\nb \udcff.png")
    'a\\nb \\udcff.png'
    """
    text = str(path)
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        for letter in text
    )


def expanded(path: Path) -> Path:
    """A path with ``~`` put in place.

    Raises:
        ClbenchError: if there is no such user, or no path can be called so.
    """
    if "\0" in str(path):
        raise ClbenchError(f"{spelt(path)} is no path: it has a null character in it")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ClbenchError(
            f"{spelt(path)} does not exist: there is no such user ({error})"
        ) from error


def few(names: Iterable[object], most: int = 10) -> str:
    """At most so many of the names, in one line.

    >>> few("abc", 2)
    'a, b and 1 more'
    """
    listed = [spelt(str(name)) for name in names]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return (", ".join(listed[:most]) or "none") + more


def note(line: str, everywhere: bool = False) -> None:
    """Tell the user something about the data.

    Args:
        line: printed as :func:`shown` has it.
        everywhere: on any process, where only one of them comes to know it.
    """
    if everywhere or is_first():
        print(spelt(line), flush=True)
