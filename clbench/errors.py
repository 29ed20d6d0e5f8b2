"""The one exception a user's mistake raises, and how values stand in its message."""

from __future__ import annotations

import reprlib
from typing import Any

#: Characters of a value in a message, and of a whole message on the screen.
VALUE, MESSAGE = 80, 2000


class ClbenchError(Exception):
    """A mistake the user can mend: its message names the value, the reason and the way out.

    The command line prints the message as one line and exits with code 2.
    """


def shown(value: Any) -> str:
    """A value as it stands in a message: its ``repr``, but never longer than a line.

    >>> shown({"a": 1}), len(shown("x" * 10**6))
    ("{'a': 1}", 80)
    """
    short = reprlib.Repr()
    short.maxdict = short.maxlist = short.maxtuple = short.maxset = 12
    short.maxstring = short.maxother = VALUE
    if isinstance(value, int) and value.bit_length() > 256:
        return f"<a whole number of {value.bit_length()} bits>"  # Python may refuse to print it
    try:
        text = short.repr(value)
    except ValueError:  # such a number further down
        text = f"<{type(value).__name__}>"
    return text if len(text) <= VALUE else f"{text[: VALUE // 2]}…{text[1 - VALUE // 2 :]}"


def reason(error: BaseException) -> str:
    r"""What an exception says, on one line; its kind if it says nothing.

    >>> reason(ValueError("no\n  such value")), reason(KeyboardInterrupt())
    ('no such value', 'KeyboardInterrupt')
    """
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    r"""The first line of what an exception says, of at most 200 characters; or its kind.

    >>> first_line(ValueError("no such value\nat 0x7f")), first_line(ValueError())
    ('no such value', 'ValueError')
    """
    line = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    return line if len(line) <= 200 else f"{line[:200]} …"


def one_line(text: str) -> str:
    r"""A message as the one line it is to be: what would break it is escaped.

    >>> one_line("a\nb α")
    'a\\nb α'
    """
    if len(text) > MESSAGE:
        text = f"{text[: MESSAGE // 2]} … {text[-MESSAGE // 2 :]}"
    return "".join(
        c if c.isprintable() or c in JOINERS else c.encode("unicode_escape").decode() for c in text
    )


#: Not printable by themselves, but part of words in Persian, Hindi and other scripts.
JOINERS = "\u200c\u200d"


def by_ctrl_c(end: BaseException) -> bool:
    """Whether Ctrl-C has ended a process: SIGTERM comes as KeyboardInterrupt with its number."""
    return isinstance(end, KeyboardInterrupt) and not end.args
