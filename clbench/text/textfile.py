"""Text files of the user's: regular files in UTF-8, or in what a mark at their start says."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path

from clbench.errors import ClbenchError

#: No text that is read by hand comes near.
LARGEST = 4 * 2**20
#: Marks that editors and PowerShell's ``>`` put at the start. UTF-32's start like UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def home(path: str) -> str:
    """A path with the user's home in the place of ``~``, as the shell does."""
    return os.path.expanduser(path) if path.startswith("~") else path


def read_file(path: Path) -> str:
    """The text of a file.

    Raises:
        ClbenchError: if it is no regular file, cannot be read, is too large to be read as a text,
            or is not in UTF-8, naming the place.
    """
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            raise ClbenchError(f"{path} is a folder, not a file")
        if not stat.S_ISREG(about.st_mode):
            raise ClbenchError(
                f"{path} is a pipe or a device: write its text to a file first, as it may be read "
                "more than once"
            )
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)  # what the system says of /proc is no bound
        if len(raw) > LARGEST:
            size = max(about.st_size, len(raw))
            raise ClbenchError(
                f"{path} has {size:,} bytes: a file of settings has at most {LARGEST:,}"
            )
    except OSError as error:
        raise ClbenchError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise ClbenchError(f"{str(path)!r} cannot be a path: {error}") from error
    encoding = next((name for mark, name in MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ClbenchError(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} at offset {error.start} is not "
            f"{encoding.upper().removesuffix('-SIG')} (Latin-1, perhaps?): save the file as UTF-8"
        ) from error
    if "\0" in text:
        raise ClbenchError(
            f"{path} has NUL characters (UTF-16 without a mark, perhaps?): save the file as UTF-8"
        )
    return text
