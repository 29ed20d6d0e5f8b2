"""Verdicts of an earlier build of this site, so that what is unchanged is not checked anew.

They lie in the site's folder, in :data:`FILE`: whoever can write there can write the pages, too.
They hold for a file by its SHA-256, for the code that made them and for the data sets and weights
that were on the machine: with another clbench, or other data, every submission is checked again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
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
#: Levels of folders, and files, by which data that came or went is noticed.
DEEP, MANY = 3, 20_000
_Rows = Annotated[list[RowVerdict], Field(max_length=10_000)]
_Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@final
class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    about: str = "Made by clbench board; remove it to have every submission checked again."
    code: str
    data: str = ""
    submissions: Annotated[dict[_Sha256, _Rows], Field(max_length=100_000)]


def kept_verdicts(site: Path, data: str) -> tuple[Mapping[str, Sequence[RowVerdict]], str]:
    """The verdicts of the last build by the SHA-256 of files; and a line if they do not count.

    Args:
        site: its folder.
        data: what :func:`data_here` says.
    """
    path = site / FILE
    if not path.exists() and not path.is_symlink():
        return {}, ""
    try:
        kept = reading.fit(_Kept, reading.json_of(path), FILE)
    except (ClbenchError, OSError) as error:
        return {}, f"every submission is checked anew: {path} cannot be read ({error})"
    if kept.code != code():
        return {}, "every submission is checked anew: this clbench is another than the last time"
    if kept.data != data:
        return {}, "every submission is checked anew: other data or weights are here by now"
    return kept.submissions, ""


def keep_verdicts(site: Path, verdicts: Mapping[str, Sequence[RowVerdict]], data: str) -> None:
    """Write them for the next build."""
    rows = TypeAdapter(tuple[RowVerdict, ...])
    told = {sha256: rows.dump_python(tuple(v), mode="json") for sha256, v in verdicts.items()}
    about = _Kept.model_fields["about"].default
    values = {"about": about, "code": code(), "data": data, "submissions": told}
    write_atomic(site / FILE, to_json(values, 1) + "\n")


def data_here(data_dir: Path) -> str:
    """A hash of the names and sizes of what checks would find here: data sets and weights."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    torch = Path(os.environ.get("TORCH_HOME") or home / "torch") / "hub" / "checkpoints"
    # Read when it was imported, by the client too: to ask it would take half a second.
    hub = Path(os.environ.get("HF_HOME") or home / "huggingface") / "hub"
    hub = Path(os.environ.get("HF_HUB_CACHE") or hub)
    digest = hashlib.sha256(str(data_dir.resolve()).encode(errors="surrogateescape"))
    for place in (data_dir, torch, hub):
        for line in islice(_files_in(place), MANY):
            digest.update(line.encode(errors="surrogateescape") + b"\0")
        digest.update(b"\0")
    return digest.hexdigest()


def _files_in(place: Path, deep: int = DEEP) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir():
                yield entry.path
                if deep:
                    yield from _files_in(Path(entry.path), deep - 1)
            else:
                yield f"{entry.path} {entry.stat().st_size}"
        except OSError:  # a link to nowhere, or what is being removed
            yield entry.path


@cache
def code() -> str:
    """A hash of this clbench's own files."""
    place = Path(clbench.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*.py")):
        digest.update(path.relative_to(place).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
