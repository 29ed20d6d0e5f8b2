"""What a check is: a function of a row, which says what is wrong, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import final

from clbench.submission.here import Here, NotMade
from clbench.submission.submission import PackedRun


@final
@dataclass(frozen=True)
class PackedRow:
    """A row of the tables: a method over seeds.

    Attributes:
        section: stream and backbone.
        method: its label.
        members: its runs, by seed.
        numbers: theirs in the submission.
        twice: numbers of runs with the recipe and the seed of one of them.
    """

    section: str
    method: str
    members: tuple[PackedRun, ...]
    numbers: tuple[int, ...]
    twice: tuple[int, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of its runs."""
        return tuple(one.run.seed for one in self.members)


#: Says what is wrong; None: nothing is. Raises NotMade where it cannot be known here.
Check = Callable[[PackedRow, Here], str | None]
CheckOfRun = Callable[[PackedRun, Here], str | None]


def of_every_run(check: CheckOfRun) -> Check:
    """A check of a row from one of a run: wrong if one of them is, made if all of them were."""

    @wraps(check)
    def of_row(row: PackedRow, here: Here) -> str | None:
        unmade: NotMade | None = None
        for one in row.members:
            try:
                if wrong := check(one, here):
                    return f"seed {one.run.seed}: {wrong}"
            except NotMade as error:
                unmade = error
        if unmade:
            raise unmade
        return None

    return of_row
