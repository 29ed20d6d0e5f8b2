"""What was found out about the rows of a submission: a verdict for each, with the reasons."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import BaseModel, ConfigDict, Field

from clbench.errors import ClbenchError
from clbench.files.abandoned import write_apart
from clbench.files.disk import to_json, writing_to
from clbench.record import reading
from clbench.record.values import Text
from clbench.submission.about import Line, Sha256, refuse_later
from clbench.submission.submission import SUFFIX, Submission

#: ``verified``: one seed was run again here, and came out the same. ``self-reported``: all checks
#: that could be made hold, and nothing was run again. ``disputed``: a check fails.
Judgement = Literal["verified", "self-reported", "disputed"]
#: Bytes of a file of verdicts.
LARGEST = 16 << 20
#: What the repetition of a seed is called among the checks.
RERUN = "rerun"
#: What such a file is called, beside ``NAME.clbench.zip``.
ENDING = ".verdict.json"


@final
@dataclass(frozen=True)
class RowVerdict:
    """A row of the tables: a method over seeds, on one stream with one backbone.

    Attributes:
        section: stream and backbone, as ``clbench report`` calls them.
        method: the row's label.
        seeds: of its runs, in order.
        runs: their numbers in the submission, in the same order.
        verdict: the outcome.
        reasons: why it is disputed, or what a rerun gave; each a line.
        made: names of the checks that were made.
        not_made: of the others, by name: why not.
    """

    section: str
    method: str
    seeds: tuple[int, ...]
    runs: tuple[int, ...]
    verdict: Judgement
    reasons: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    not_made: Mapping[str, str] = field(default_factory=dict)


_Whole = Annotated[int, Field(gt=-(2**63), lt=2**63)]


@final
class _Row(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    section: Text
    method: Text
    seeds: list[_Whole]
    runs: list[_Whole]
    verdict: Judgement
    reasons: list[Text]
    made: list[Text]
    not_made: dict[Text, Text]


@final
class Verdicts(BaseModel):
    """What ``NAME.verdict.json`` says: the verdicts of one machine on one file.

    Attributes:
        format: version of the format.
        submission_sha256: of the file that was checked; of another one it says nothing.
        clbench: version that checked it.
        date: of the checks, in UTC, as ``2026-01-31``.
        machine: what it was run on.
        rows: the verdicts.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    format: Literal[1] = 1
    submission_sha256: Sha256
    clbench: Line
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    machine: dict[Text, Text]
    rows: Annotated[list[_Row], Field(max_length=100_000)]

    @property
    def verdicts(self) -> tuple[RowVerdict, ...]:
        """The rows, as ``verify`` returns them."""
        return tuple(
            RowVerdict(
                row.section,
                row.method,
                tuple(row.seeds),
                tuple(row.runs),
                row.verdict,
                tuple(row.reasons),
                tuple(row.made),
                row.not_made,
            )
            for row in self.rows
        )


def verdict_path(submission: Path) -> Path:
    """Where the verdicts on a file lie: beside it."""
    return submission.with_name(submission.name.removesuffix(SUFFIX) + ENDING)


def write_verdicts(
    submission: Submission,
    verdicts: Sequence[RowVerdict],
    clbench: str,
    date: str,
    machine: Mapping[str, str],
) -> Path:
    """Write the verdicts on a submission beside it.

    Args:
        submission: what was checked.
        verdicts: on its rows.
        clbench: version that checked it.
        date: of today, in UTC.
        machine: what it was run on.

    Returns:
        The file.

    Raises:
        ClbenchError: if it cannot be written.
    """
    values: dict[str, Any] = {
        "format": 1,
        "submission_sha256": submission.sha256,
        "clbench": clbench,
        "date": date,
        "machine": dict(machine),
        "rows": [json.loads(json.dumps(asdict(verdict))) for verdict in verdicts],
    }
    made = reading.fit(Verdicts, values, ENDING)
    path = verdict_path(submission.path)
    with writing_to(path.parent, "verify again", "leave --write out"):
        write_apart(path, to_json(made.model_dump(), indent=1) + "\n")
    return path


def refuse_loss(submission: Submission, rows: Sequence[str] | None) -> None:
    """Refuse to write over what was run again before, which took its time, and is not run now.

    What could not be written at all in the end is refused as well.

    Args:
        submission: what is to be checked.
        rows: labels of the rows that are to be run again; None: all of them.

    Raises:
        ClbenchError: naming the file, and the row.
    """
    path = verdict_path(submission.path)
    if path.is_dir() and not path.is_symlink():
        raise ClbenchError(f"{path} is a folder, where the verdicts would be written: move it away")
    if not os.access(path.parent, os.W_OK):
        raise ClbenchError(
            f"{path} cannot be written: make its folder writable, or copy the submission elsewhere"
        )
    lost = [] if rows is None else [label for label in run_again(submission) if label not in rows]
    if lost:
        raise ClbenchError(
            f"{path} has the rerun of {lost[0]!r:.100}, which would be "
            "lost: run it again too (--rerun), or move the file away"
        )


def run_again(submission: Submission) -> list[str]:
    """Labels of the rows that were run again, as the verdicts beside the file have it."""
    try:
        former = read_verdicts(submission)
    except ClbenchError:  # of another file, or no verdicts: nothing of this one is in it
        return []
    return [row.method for row in former.verdicts if RERUN in row.made] if former else []


def read_verdicts(submission: Submission) -> Verdicts | None:
    """The verdicts that lie beside a submission; None if there are none.

    Whoever gives the submission can have written them: take those of your own.

    Raises:
        ClbenchError: if they are of another file, or no verdicts.
    """
    path = verdict_path(submission.path)
    try:
        content = reading.bytes_of(path, LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClbenchError(f"{path} cannot be read: {error.strerror or error}") from error
    values = reading.json_in(content, path.name, strict=True)
    refuse_later(values, path.name)
    found = reading.fit(Verdicts, values, path.name)
    if found.submission_sha256 != submission.sha256:
        raise ClbenchError(f"{path.name} is of another file (SHA-256): verify again")
    return found
