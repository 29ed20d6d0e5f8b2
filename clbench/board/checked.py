"""Verdicts of an earlier build of this site, so that what is unchanged is not checked anew.

They lie in the site's folder, in :data:`FILE`: whoever can write there can write the pages, too.
They hold for a file by its SHA-256, and for the code that made them: with another clbench, every
submission is checked again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

import clbench
from clbench.errors import ClbenchError
from clbench.files.disk import to_json, write_atomic
from clbench.record import reading
from clbench.submission.verdicts import RowVerdict

#: Also the mark by which a folder is known as a site of boards.
FILE = "board.json"
_Rows = Annotated[list[RowVerdict], Field(max_length=10_000)]
_Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@final
class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    about: str = "Made by clbench board; remove it to have every submission checked again."
    code: str
    submissions: Annotated[dict[_Sha256, _Rows], Field(max_length=100_000)]


def kept_verdicts(site: Path) -> tuple[Mapping[str, Sequence[RowVerdict]], str]:
    """The verdicts of the last build by the SHA-256 of files; and a line if they do not count."""
    path = site / FILE
    if not path.exists() and not path.is_symlink():
        return {}, ""
    try:
        kept = reading.fit(_Kept, reading.json_of(path), FILE)
    except (ClbenchError, OSError) as error:
        return {}, f"every submission is checked anew: {path} cannot be read ({error})"
    if kept.code != code():
        return {}, "every submission is checked anew: this clbench is another than the last time"
    return kept.submissions, ""


def keep_verdicts(site: Path, verdicts: Mapping[str, Sequence[RowVerdict]]) -> None:
    """Write them for the next build."""
    rows = TypeAdapter(tuple[RowVerdict, ...])
    told = {sha256: rows.dump_python(tuple(v), mode="json") for sha256, v in verdicts.items()}
    values = {"about": _Kept.model_fields["about"].default, "code": code(), "submissions": told}
    write_atomic(site / FILE, to_json(values, 1) + "\n")


@cache
def code() -> str:
    """A hash of this clbench's own files."""
    place = Path(clbench.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*.py")):
        digest.update(path.relative_to(place).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
