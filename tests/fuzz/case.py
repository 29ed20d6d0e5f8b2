"""One thing to try."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Case:
    """Words of a command line, and what must become of them.

    Attributes:
        words: ``*suite FILE`` reads a suite and names its runs, the others are clbench's.
        must: ``refuse`` what makes no sense, ``take`` what does, or either.
    """

    words: tuple[str, ...]
    must: Literal["refuse", "take", "either"] = "either"


def refused(words: tuple[str, ...], wrong: bool) -> Case:
    """A case that must be refused if it is wrong."""
    return Case(words, "refuse" if wrong else "either")
