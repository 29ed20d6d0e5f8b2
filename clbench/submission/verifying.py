"""``clbench verify``: a verdict for every row of a submission, by what can be checked here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from clbench.errors import ClbenchError
from clbench.report.gather import UNREADABLE, Run
from clbench.report.sorting import sections_of
from clbench.submission.checks import CHECKS
from clbench.submission.checks.base import Check, Row
from clbench.submission.here import Here, NotMade
from clbench.submission.submission import Submission
from clbench.submission.verdicts import RowVerdict
from clbench.text.texts import cut_line


def verify(
    submission: Submission,
    data_dir: Path | str = "data",
    others: Sequence[Submission] = (),
) -> tuple[RowVerdict, ...]:
    """Check a submission, row by row; nothing is fetched, run or written.

    Args:
        submission: as :func:`~clbench.submission.submission.opened` reads it.
        data_dir: where data sets lie; what is not there is not compared.
        others: submissions that name weights alike.

    Returns:
        A verdict for each row, ``self-reported`` or ``disputed``, in the order of reports.
    """
    here = Here(Path(data_dir), [other for other in others if other.sha256 != submission.sha256])
    return tuple(judged(row, here) for row in rows_of(submission))


def rows_of(submission: Submission) -> list[Row]:
    """The rows of a submission, as reports make them."""
    numbers = {id(run): number for number, run in enumerate(submission.runs)}
    rows, left = [], set(numbers.values())
    for section in sections_of(submission.runs):
        for group in section.groups:
            own = tuple(numbers[id(run)] for run in group.runs)
            left -= {*own}
            members = tuple(submission.packed[number] for number in own)
            rows.append(Row(section.title, group.label, members, own))
    for number in sorted(left):  # reports drop what repeats a recipe and a seed
        key = _key(submission.runs[number])
        place = next(i for i, row in enumerate(rows) if key in map(_key, _runs(row)))
        row = rows[place]
        rows[place] = Row(row.section, row.method, row.members, row.numbers, (*row.twice, number))
    return rows


def _runs(row: Row) -> list[Run]:
    return [one.run for one in row.members]


def _key(run: Run) -> str:
    told = [run.seed, run.stream, run.record.run.tasks, run.settings]
    return json.dumps(told, sort_keys=True)


def judged(row: Row, here: Here) -> RowVerdict:
    """Make every check that can be made of a row."""
    reasons, made, not_made = [], [], {}
    for name, check in CHECKS.items():
        try:
            wrong = _asked(check, row, here)
        except NotMade as error:
            not_made[name] = cut_line(str(error), 200)
            continue
        made.append(name)
        if wrong:
            reasons.append(cut_line(f"{name}: {wrong}", 400))
    return RowVerdict(
        row.section,
        row.method,
        row.seeds,
        row.numbers,
        "disputed" if reasons else "self-reported",
        tuple(reasons),
        tuple(made),
        not_made,
    )


def _asked(check: Check, row: Row, here: Here) -> str | None:
    """What a check says; what no run brings about is a reason too."""
    try:
        return check(row, here)
    except ClbenchError as error:
        return str(error)
    except UNREADABLE as error:
        return f"it cannot be checked ({type(error).__name__}: {error})"
