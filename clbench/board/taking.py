"""One submission for the site: read, checked, its runs' pages written, and only rows kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from clbench.board.boards import BoardRow
from clbench.board.key import board_key
from clbench.board.run_page import write_run
from clbench.board.slim import slim
from clbench.errors import ClbenchError
from clbench.report.gather import ODD, Run
from clbench.report.group import Group
from clbench.submission.submission import SUFFIX, Submission, opened
from clbench.submission.verdicts import RowVerdict, read_verdicts
from clbench.text.texts import cut, cut_line, slug


@final
@dataclass(frozen=True)
class Taken:
    """A submission as the site has it.

    Attributes:
        file: name of the file.
        name: of its pages, unique on the site.
        sha256: of the file.
        about: what ``submission.json`` says, by name.
        runs: how many there are.
        rows: its methods over seeds.
        checks: the verdict of each row in the same order, with the checks made.
        own: of these, what follows from the file alone, for the next build.
        told: a line on the verdict file beside it; empty if there is none.
    """

    file: str
    name: str
    sha256: str
    about: Mapping[str, Any]
    runs: int
    rows: tuple[BoardRow, ...]
    checks: tuple[RowVerdict, ...]
    own: tuple[RowVerdict, ...]
    told: str


def page_name(file: str, sha256: str) -> str:
    """Name of a submission's folder on the site: safe, and unique as long as hashes are.

    >>> page_name("../My runs.clbench.zip", "0123456789abcdef")
    'My-runs-0123456789abcdef'
    """
    return f"{slug(file.removesuffix(SUFFIX), 60)}-{sha256[:16]}".lstrip("-")


def take_in(
    path: Path, site: Path, kept: Mapping[str, Sequence[RowVerdict]], data_dir: Path
) -> Taken | str:
    """Read and check a submission, write the pages of its runs, and keep what boards need.

    Args:
        path: of the file.
        site: folder of the whole site.
        kept: verdicts of an earlier build, by the SHA-256 of files.
        data_dir: where data sets lie, for checks that need them.

    Returns:
        The submission, or one line if it is none.
    """
    try:
        submission = opened(path)
    except ClbenchError as error:
        return cut_line(str(error))
    own = _kept_of(submission, kept) or tuple(_verdicts(submission, data_dir))
    checks, told = _with_file(submission, own)
    name = page_name(path.name, submission.sha256)
    known: dict[str, Any] = {}
    try:
        rows = tuple(_row(submission, name, row, site, known) for row in checks)
    except ODD as error:  # no run is known to; what a disk refuses is told as that
        return cut_line(f"{path.name} cannot be shown: {type(error).__name__}: {error}")
    about = submission.about.model_dump(exclude={"sha256", "records_sha256"})
    count = len(submission.runs)
    return Taken(path.name, name, submission.sha256, about, count, rows, checks, own, told)


def _row(
    submission: Submission, name: str, row: RowVerdict, site: Path, known: dict[str, Any]
) -> BoardRow:
    """A row as boards have it; the pages of its runs are written."""
    runs = tuple(submission.runs[i] for i in row.runs)
    group = Group(row.method, runs, 0, name=row.method)
    pages = tuple(f"submissions/{name}/{i}" for i in row.runs)
    for run, page in zip(runs, pages, strict=True):
        write_run(run, site / page, row, submission.title)
    stem = cut(submission.stem, 40)
    called = (f"{stem} {i}" for i in row.runs)
    thin = tuple(slim(run, one, known) for run, one in zip(runs, called, strict=True))
    return BoardRow(
        name,
        submission.title,
        replace(group, runs=thin),
        board_key(group),
        row.verdict,
        row.reasons,
        pages,
        tuple(map(fingerprint, runs)),
    )


def _kept_of(
    submission: Submission, kept: Mapping[str, Sequence[RowVerdict]]
) -> tuple[RowVerdict, ...]:
    """The verdicts of an earlier build; none if there are none, or they are of other runs."""
    rows = tuple(kept.get(submission.sha256, ()))
    numbers = {number for row in rows for number in row.runs}
    return rows if numbers <= set(range(len(submission.runs))) and all(r.runs for r in rows) else ()


def _with_file(
    submission: Submission, own: Sequence[RowVerdict]
) -> tuple[tuple[RowVerdict, ...], str]:
    """The verdicts with those of the file beside the submission, and a line on it.

    It can add what was run again, and what was found elsewhere to be wrong. It takes nothing away:
    a row that is disputed here stays so.
    """
    try:
        file = read_verdicts(submission)
    except ClbenchError as error:
        return tuple(own), cut_line(f"does not count: {error}")
    if file is None:
        return tuple(own), ""
    found = {row.runs: row for row in file.verdicts}
    merged = tuple(_worse(row, found.get(row.runs)) for row in own)
    on = cut_line(", ".join(f"{name} {value}" for name, value in file.machine.items()))
    return merged, f"of {file.date}, by clbench {file.clbench} on {on}"


def _worse(own: RowVerdict, other: RowVerdict | None) -> RowVerdict:
    if other is None or other.verdict == "self-reported":
        return own
    if own.verdict == "disputed":
        reasons = own.reasons if other.verdict == "verified" else own.reasons + other.reasons
        return replace(own, reasons=tuple(dict.fromkeys(reasons)))
    made = tuple(dict.fromkeys((*own.made, *other.made)))
    lacking = {name: why for name, why in own.not_made.items() if name not in other.made}
    return replace(own, verdict=other.verdict, reasons=other.reasons, made=made, not_made=lacking)


def _verdicts(submission: Submission, data_dir: Path) -> Sequence[RowVerdict]:
    from clbench.submission.verifying import verify  # imports torch, which takes seconds

    return verify(submission, data_dir)


def fingerprint(run: Run) -> str:
    """A hash of the seed and all accuracies of a run, whatever it is called."""
    digest = hashlib.sha256(f"{run.seed}".encode())
    for event in run.record.tasks:
        told = (event.task, event.first, event.task_incremental, event.class_incremental)
        digest.update(repr(told).encode())
    return digest.hexdigest()
