"""What was found out about the rows of a submission: a verdict for each, with the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final

#: ``verified``: one seed was run again here, and came out the same. ``self-reported``: all checks
#: that could be made hold, and nothing was run again. ``disputed``: a check fails.
Judgement = Literal["verified", "self-reported", "disputed"]


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
        reasons: why it is disputed, or how it was verified; each a line.
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
