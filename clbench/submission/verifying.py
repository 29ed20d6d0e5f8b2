"""``clbench verify``: a verdict for every row of a submission, by what can be checked here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

from clbench.errors import ClbenchError
from clbench.files.disk import writing_to
from clbench.recipe.redacting import without_folders
from clbench.report.gather import UNREADABLE, Run
from clbench.report.sorting import sections_of
from clbench.submission.checks import CHECKS
from clbench.submission.checks.base import Check, PackedRow
from clbench.submission.here import Here, NotMade
from clbench.submission.submission import Submission, draw_of
from clbench.submission.verdicts import RERUN, RowVerdict
from clbench.text.texts import cut_line


@final
@dataclass(frozen=True)
class Rerun:
    """How rows are run again.

    Attributes:
        output: where the runs go; None: into a temporary folder.
        plugins: files or modules of whoever verifies; no other code is loaded.
        rows: labels of the rows; None: all that no check disputes.
        tell: is told what comes.
    """

    output: Path | None = None
    plugins: tuple[str, ...] = ()
    rows: tuple[str, ...] | None = None
    tell: Callable[[str], None] = print


def verify(
    submission: Submission,
    data_dir: Path | str = "data",
    others: Sequence[Submission] = (),
    rerun: Rerun | None = None,
) -> tuple[RowVerdict, ...]:
    """Check a submission, row by row; without ``rerun``, nothing is fetched, run or written.

    Args:
        submission: as :func:`~clbench.submission.submission.opened` reads it.
        data_dir: where data sets lie; what is not there is not compared.
        others: submissions that name weights alike.
        rerun: repeat one seed of each row here.

    Returns:
        A verdict for each row, in the order of reports.

    Raises:
        ClbenchError: if there is no row that is to be run again, or no room for it.
    """
    if rerun is not None and rerun.output is not None:
        refuse_taken(rerun.output)
    here = Here(Path(data_dir), [other for other in others if other.sha256 != submission.sha256])
    rows = rows_in(submission)
    verdicts = [judged(row, here) for row in rows]
    if rerun is None:
        return tuple(verdicts)
    if unknown := [n for n in rerun.rows or () if n not in [row.method for row in rows]]:
        known = ", ".join(dict.fromkeys(row.method for row in rows))
        raise ClbenchError(cut_line(f"--rows: there is no row {unknown[0]!r}; there are {known}"))
    for place, row in enumerate(rows):
        wanted = rerun.rows is None or row.method in rerun.rows
        if wanted and verdicts[place].verdict != "disputed":
            verdicts[place] = _repeated(verdicts[place], submission, row, here, rerun)
    return tuple(verdicts)


def refuse_taken(output: Path) -> None:
    """Refuse a folder that has runs of another time, or in which none can be written.

    Raises:
        ClbenchError: naming the run, or what the disk says.
    """
    with writing_to(output, "verify again"):
        output.mkdir(parents=True, exist_ok=True)
        taken = sorted(path.name for path in output.iterdir() if path.name.startswith("run-"))
    if taken:
        raise ClbenchError(
            f"--output {output} holds {taken[0]} of an earlier rerun: name another folder, or "
            "remove the runs in it"
        )


def _repeated(
    verdict: RowVerdict, submission: Submission, row: PackedRow, here: Here, rerun: Rerun
) -> RowVerdict:
    """The verdict on a row once a seed of it was run again."""
    from clbench.submission.rerunning import again, drawn_seed  # Lightning takes seconds

    one = drawn_seed(submission, row)
    number = row.numbers[row.members.index(one)]
    rerun.tell(
        f"Running again: {row.method}, seed {one.run.seed} (of {len(row.members)}; drawn by the "
        "file's hash)"
    )
    try:
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) if rerun.output is None else rerun.output
            found = again(one, row, here, folder / f"run-{number}", rerun.plugins)
    except NotMade as error:
        return replace(verdict, not_made={**verdict.not_made, RERUN: _line(error, 200)})
    told = tuple(f"seed {one.run.seed} run again: {each.words}" for each in found)
    if any(each.fails for each in found):
        reasons = tuple(f"{RERUN}: {line}" for line in told)
        return replace(verdict, verdict="disputed", reasons=reasons, made=(*verdict.made, RERUN))
    if all(each.holds for each in found):
        return replace(verdict, verdict="verified", reasons=told, made=(*verdict.made, RERUN))
    why = "the row's seeds lie so far apart that a rerun tells nothing"
    return replace(verdict, reasons=told, not_made={**verdict.not_made, RERUN: why})


def _line(text: object, most: int) -> str:
    """A line without folders of this machine: verdicts are handed on, and shown on boards."""
    return cut_line(without_folders(str(text)), most)


def rows_in(submission: Submission) -> list[PackedRow]:
    """The rows of a submission, as reports make them."""
    numbers = {id(run): number for number, run in enumerate(submission.runs)}
    rows, left = [], set(numbers.values())
    for section in sections_of(submission.runs):
        for group in section.groups:
            own = tuple(numbers[id(run)] for run in group.runs)
            left -= {*own}
            members = tuple(submission.packed[number] for number in own)
            rows.append(PackedRow(section.title, group.label, members, own))
    for number in sorted(left):  # reports drop what repeats a recipe and a seed
        key = draw_of(submission.runs[number])
        place = next(i for i, row in enumerate(rows) if key in map(draw_of, _runs(row)))
        row = rows[place]
        rows[place] = PackedRow(
            row.section, row.method, row.members, row.numbers, (*row.twice, number)
        )
    return rows


def _runs(row: PackedRow) -> list[Run]:
    return [one.run for one in row.members]


def judged(row: PackedRow, here: Here) -> RowVerdict:
    """Make every check that can be made of a row."""
    reasons, made, not_made = [], [], {}
    for name, check in CHECKS.items():
        try:
            wrong = _asked(check, row, here)
        except NotMade as error:
            not_made[name] = _line(error, 200)
            continue
        made.append(name)
        if wrong:
            reasons.append(_line(f"{name}: {wrong}", 400))
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


def _asked(check: Check, row: PackedRow, here: Here) -> str | None:
    """What a check says; what no run brings about is a reason too."""
    try:
        return check(row, here)
    except ClbenchError as error:
        return str(error)
    except UNREADABLE as error:
        return f"it cannot be checked ({type(error).__name__}: {error})"
