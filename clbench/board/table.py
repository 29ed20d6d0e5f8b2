"""The tables of a board: ranks, scores, costs and verdicts; what differs; what is disputed."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.board.boards import Board, BoardRow
from clbench.board.ranks import RULE
from clbench.record.record import Scenario
from clbench.report.boards import repeats
from clbench.report.cells import NOTHING, Entry, Head, Table, score_cell
from clbench.report.confounds import MARK
from clbench.report.metrics import METRICS, Metric
from clbench.report.section import Standing
from clbench.report.statistics import Mean

#: What rows are ranked by.
FIRST = "overall_performance"
#: Scores and costs, in order; those that no row has are left out.
COLUMNS = (
    *(FIRST, "overall_performance_micro", "average_incremental_accuracy"),
    *("average_incremental_accuracy_micro", "backward_transfer", "forgetting"),
    *("learning_accuracy", "retention", "kept", "geometric_mean"),
    *("train_steps", "seconds", "flops", "peak_memory_bytes", "stored_samples"),
)
#: Costs that no leaderboard of a report has.
COSTS = {
    "train_steps": Metric("Steps", "optimiser steps of the whole stream", "number", -1),
    "peak_memory_bytes": Metric(
        "Memory", "most bytes in use: of the GPU, or of the process on a CPU", "bytes", -1
    ),
    "stored_samples": Metric("Samples kept", "samples kept from past tasks", "number", -1),
}
NOTE = (
    f"{RULE} {MARK}: more than the method differs from the first row, which a table below says. "
    "Accuracies in %, mean ± standard deviation over seeds, with the 95 % interval of the mean "
    "(of two seeds: their two values)."
)


def board_table(board: Board, scenario: Scenario) -> Table:
    """All rows that are not disputed, the best OP first."""
    standing = board.section.leaderboard(scenario)
    scores = {row.group.number: _scores(row, scenario) for row in standing}
    columns = [
        name
        for name in COLUMNS
        if any(found[name] for found in scores.values()) and not _repeated(standing, name)
    ]
    heads = [Head("Method"), Head("Rank", "what the seeds can tell apart", -1)]
    shown = (_about(name) for name in columns)
    heads += [Head(a.label, a.about, a.better, a is METRICS[FIRST]) for a in shown]
    heads[3:3] = [Head("Verdict"), Head("Seeds", "runs", 1)]
    leader, ranks = board.leader(scenario), board.ranks(scenario)
    body = []
    for row in standing:
        ours = board.by_number[row.group.number]
        number, rank = row.group.number, ranks.get(row.group.number)
        line = [Entry(row.group.label, row.group.label, group=number)]
        line += [_rank(board, ours, rank, bool(besides(board, leader, ours)))]
        line += [_cell(row, name, scores[number][name], rank, leader) for name in columns]
        count = len(row.group.finished)
        line[3:3] = [Entry(ours.verdict, ours.verdict, group=number), Entry(str(count), count)]
        body.append(line)
    title = f"{board.section.title}, {board.scenarios[scenario]}"
    return Table(title, heads, body)


def besides(board: Board, leader: BoardRow | None, row: BoardRow) -> list[str]:
    """What differs between a row and the first besides the method."""
    if leader is None or leader is row:
        return []
    return [c.words for c in board.section.confounds(row.group, leader.group)]


def differences_table(board: Board, scenario: Scenario) -> Table | None:
    """What differs from the first row besides the method; None if nothing does in any row."""
    leader = board.leader(scenario)
    found = [(row, besides(board, leader, row)) for row in (*board.rows, *board.references)]
    body = [
        [
            Entry(row.group.label, row.group.label, group=row.group.number),
            Entry("; ".join(words), "; ".join(words), words=True),
        ]
        for row, words in found
        if words
    ]
    if leader is None or not body:
        return None
    title = f"What differs from {leader.group.label} besides the method"
    same = len(found) - 1 - len(body)
    note = f"In the other {same} rows nothing else differs." if same else ""
    return Table(title, [Head("Method"), Head("What differs")], body, note)


def disputed_table(board: Board) -> Table | None:
    """Rows that fail a check, with the reasons; None if there are none."""
    if not board.disputed:
        return None
    scenario: Scenario = "task_incremental"
    heads = [Head("Method"), Head("Seeds"), Head("OP as claimed"), Head("Why")]
    body = []
    for row in board.disputed:
        op = row.group.estimate(FIRST, scenario)
        told = "; ".join(row.reasons)
        number, count = row.group.number, len(row.group.finished)
        body.append(
            [
                Entry(row.group.label, row.group.label, group=number),
                Entry(str(count), count),
                score_cell(op, "accuracy", group=number),
                Entry(told, told, words=True),
            ]
        )
    return Table("Disputed: a check fails, so these are not ranked", heads, body)


def _rank(board: Board, row: BoardRow, rank: int | None, differs: bool) -> Entry:
    mark = f" {MARK}" * differs
    if rank is not None:
        return Entry(f"{rank}{mark}", rank)
    why = "one seed" if row in board.rows and row.group.rival else "reference"
    return Entry(f"{NOTHING}{mark}", None, why)


def _scores(row: Standing, scenario: Scenario) -> dict[str, Mean | None]:
    costs = {name: row.group.estimate(name, scenario) for name in COSTS}
    return {name: row.scores.get(name) or costs.get(name) for name in COLUMNS}


def _repeated(standing: Sequence[Standing], name: str) -> bool:
    return name in METRICS and repeats(standing, name)


def _cell(
    row: Standing, name: str, found: Mean | None, rank: int | None, leader: BoardRow | None
) -> Entry:
    number, about = row.group.number, _about(name)
    if name == FIRST:
        first = leader is not None and leader.group.number == number
        mark = "best" if first else "tie" if rank == 1 else ""
        return score_cell(found, about.unit, mark, number)
    if found is not None and name in ("train_steps", "stored_samples"):
        return Entry(f"{found.mean:,.0f}", found.mean, group=number)
    return score_cell(found, about.unit, row.marks.get(name, ""), number)


def _about(name: str) -> Metric:
    return COSTS.get(name) or METRICS[name]
