"""Rows of all submissions, sorted onto the boards that they share."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

from clbench.board.key import Key
from clbench.board.ranks import ranks
from clbench.record.baselines import PLAIN
from clbench.record.record import Scenario
from clbench.report.checks import warnings_of
from clbench.report.group import Group, set_aside
from clbench.report.section import Section
from clbench.text.texts import cut_line

#: What a row is, the best first.
VERDICTS = {
    "verified": "clbench ran one seed again, and it came out the same within the tolerance",
    "self-reported": "all checks that need no training hold; nothing was run again",
    "disputed": "a check fails; the row is not ranked",
}


@final
@dataclass(frozen=True)
class BoardRow:
    """A method over seeds, as one submission has it.

    Attributes:
        submission: name of the submission's page.
        title: of the submission.
        group: the runs, as boards need them.
        key: what they share with others on their board.
        verdict: one of :data:`VERDICTS`.
        reasons: why it is that, each a sentence.
        pages: of the runs, in the group's order: folders below the site's.
        prints: hashes of the runs' seeds and accuracies, in the group's order.
    """

    submission: str
    title: str
    group: Group
    key: Key
    verdict: str
    reasons: tuple[str, ...]
    pages: tuple[str, ...]
    prints: tuple[str, ...]


@final
@dataclass(frozen=True)
class Board:
    """Rows that share what :class:`Key` says.

    Attributes:
        key: what they share.
        rows: those that are ranked.
        references: rows of other boards to compare with, not ranked: the bound, plain fine-tuning.
        disputed: rows that fail a check.
    """

    key: Key
    rows: tuple[BoardRow, ...]
    references: tuple[BoardRow, ...]
    disputed: tuple[BoardRow, ...]

    @cached_property
    def section(self) -> Section:
        """The rows as reports compare them, without those in dispute."""
        groups = tuple(row.group for row in (*self.rows, *self.references))
        runs = [run for row in self.rows for run in row.group.runs]
        warnings = [*warnings_of(runs), *warnings_of(runs, everywhere=True)]
        told = self.key.title, groups, self.key.tasks, tuple(warnings)
        return Section(*told, compares=False)

    @property
    def scenarios(self) -> Mapping[Scenario, str]:
        """The accuracies that differ, with their titles; of one task, both are the same."""
        groups = [row.group for row in (*self.rows, *self.references)]
        if not groups:
            return {}
        told = self.section.scenarios
        return {"task_incremental": "one task"} if len(self.key.tasks) == 1 else told

    @cached_property
    def by_number(self) -> Mapping[int, BoardRow]:
        """Every row by the number of its group."""
        every = (*self.rows, *self.references, *self.disputed)
        return {row.group.number: row for row in every}

    @cached_property
    def _ranks(self) -> dict[Scenario, dict[int, int]]:
        return {}

    def ranks(self, scenario: Scenario) -> Mapping[int, int]:
        """The rank of each row that has one, by its group's number."""
        if scenario not in self._ranks:
            self._ranks[scenario] = ranks([row.group for row in self.rows], scenario)
        return self._ranks[scenario]

    def leader(self, scenario: Scenario) -> BoardRow | None:
        """The row with the best mean of those that have a rank; None if none has."""
        held = self.ranks(scenario)
        standing = (s.group.number for s in self.section.leaderboard(scenario))
        first = next((number for number in standing if number in held), None)
        return None if first is None else self.by_number[first]

    def equal_to(self, row: BoardRow) -> list[BoardRow]:
        """Rows of other submissions that have the same accuracies under one seed at least."""
        found = set(row.prints)
        others = (o for o in self.by_number.values() if o.submission != row.submission)
        return [other for other in others if found & set(other.prints)]


def boards_of(rows: Iterable[BoardRow]) -> list[Board]:
    """All boards, by stream, backbone, weights, protocol and budget.

    The bound has no board of its own where it can stand beside what it bounds; in dispute, it
    stands beside nothing.
    """
    found, fair = defaultdict[Key, list[BoardRow]](list), defaultdict[Key, list[BoardRow]](list)
    for row in rows:
        found[row.key].append(row)
        if row.verdict != "disputed":
            fair[row.key].append(row)
    used = set[Key]()
    made = []
    for key, own in found.items():
        if not key.bound:
            references = _references(key, fair)
            used |= {row.key for row in references if row.key.bound}
            made.append(_board(key, own, references))
    for key, own in found.items():
        rest = [row for row in own if key not in used or row.verdict == "disputed"]
        if key.bound and rest:
            made.append(_board(key, rest, []))
    return sorted(made, key=lambda board: _place(board.key))


def same_but_order_of(boards: Sequence[Board]) -> list[tuple[Board, ...]]:
    """Boards that differ in the order of the classes alone, two or more."""
    found: dict[Key, list[Board]] = defaultdict(list)
    for board in boards:
        found[board.key.stands_for].append(board)
    return [tuple(same) for same in found.values() if len(same) > 1]


def _place(key: Key) -> tuple[object, ...]:
    """Where a board stands among others; numbers within texts count as numbers."""
    budget = [int(part) if part.isdigit() else 0 for part in re.split(r"(\d{1,15})", key.budget)]
    memory = key.memory if key.memory >= 0 else 10**18
    order = len(key.tasks), key.tasks[:50]
    return key.stream, key.backbone, key.weights, key.protocol, order, memory, budget, key.identity


def _references(key: Key, found: Mapping[Key, Sequence[BoardRow]]) -> list[BoardRow]:
    """What to compare the rows of a board with, from other boards of the same data and weights."""
    free = replace(key, memory=0)
    plain = [row for row in found.get(free, ()) if key.memory and row.group.base == PLAIN]
    bounds = [other for other in found if other.bound and _beside(other, key)]
    near = [other for other in bounds if _beside(other, key, ("protocol", "budget"))] or bounds
    return [*plain, *(row for other in near for row in found[other])]


def _beside(bound: Key, key: Key, parts: Sequence[str] = ()) -> bool:
    """Whether a bound is one of the same images and weights, and of the same in some parts."""
    same = ("stream", "tasks", "classes", "splits", "settings", "size", "backbone", "weights")
    return all(getattr(bound, name) == getattr(key, name) for name in (*same, *parts))


def _board(key: Key, own: Sequence[BoardRow], references: Sequence[BoardRow]) -> Board:
    every = _told_apart([*own, *references])
    groups = set_aside([row.group for row in every])
    numbered = [
        replace(row, group=replace(group, number=number))
        for number, (row, group) in enumerate(zip(every, groups, strict=True))
    ]
    ours, theirs = numbered[: len(own)], numbered[len(own) :]
    return Board(
        key,
        tuple(row for row in ours if row.verdict != "disputed"),
        tuple(theirs),
        tuple(row for row in ours if row.verdict == "disputed"),
    )


def _told_apart(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """The rows with labels that are unique: where two are equal, the submission's name follows."""
    count = Counter(row.group.label for row in rows)
    made = []
    for row in rows:
        label = row.group.label
        if count[label] > 1:
            label = f"{cut_line(label, 150)} · {row.submission}"
        made.append(replace(row, group=replace(row.group, label=label)))
    return made
