"""Texts that come from outside, made fit for where they go: a line, a cell, a file's name."""

from __future__ import annotations

import re
import unicodedata

#: What XML and HTML cannot hold, half characters of broken names, and what turns the reading order.
UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
#: Longer names say no more.
LONGEST = 200


def writable(text: str) -> str:
    """A text that every file of a report can hold.

    >>> writable("a\\x1b[31mb")
    'a�[31mb'
    """
    return UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)


def cut_line(text: str, most: int = 400) -> str:
    """A text as one line of bounded length.

    >>> cut_line("two\\n lines"), cut_line("too long", 4)
    ('two lines', 'too…')
    """
    return cut(" ".join(writable(text).split()), most)


def cut(text: str, most: int = LONGEST) -> str:
    """A text cut to ``most`` characters, with an ellipsis.

    >>> cut("sequential", 5)
    'sequ…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def slug(text: str, most: int = 40) -> str:
    """A text as a part of a file's name: ASCII letters, digits and dashes; may be empty.

    >>> slug("split/../digits, 3 tasks: é"), slug("数字")
    ('split-digits-3-tasks-e', '')
    """
    plain = unicodedata.normalize("NFKD", text[: 4 * most]).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain)[:most].strip("-")


#: A cell that starts so is a formula to a spreadsheet.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def cell(value: object) -> object:
    """A value for a CSV file: a text that a spreadsheet would take for a formula gets a quote.

    Numbers, and texts that are numbers, stay as they are.

    >>> cell("=1+1"), cell("-0.5"), cell(-0.5), cell("-seed")
    ("'=1+1", '-0.5', -0.5, "'-seed")
    """
    if not isinstance(value, str) or not value.lstrip(" ").startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
