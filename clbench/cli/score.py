"""``clbench score``: what follows from an accuracy matrix in a file, without PyTorch."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clbench.errors import ClbenchError, shown
from clbench.record.scores import LABELS, SIGNED, all_scores
from clbench.text.textfile import read_file

Matrix = NDArray[np.float64]
#: Test images of a task at most.
MOST = 1e12
#: What stands in a cell where nothing was measured.
EMPTY = ("", "nan", "na", "n/a", "null", "none", "-", "–")
#: The first cells of the header of a run's own file.
RUN = ["scenario", "after_task"]
#: What a score needs besides the entries on and below the diagonal.
NEEDS = {
    "overall_performance_micro": "--images",
    "average_incremental_accuracy_micro": "--images",
    "forward_transfer": "entries right above the diagonal, and --baseline",
    "mtil_transfer": "the entries above the diagonal",
    "mtil_average": "the entries above the diagonal",
    "intransigence": "--reference",
}


@dataclass(frozen=True)
class Scored:
    """What a file holds, and what follows from it.

    Attributes:
        path: the file.
        tasks: how many there are.
        read_as: ``fractions`` or ``percent``: what the file's numbers were taken for.
        scores: fractions, by the name of each matrix (``accuracy``, or a run's scenarios).
    """

    path: Path
    tasks: int
    read_as: str
    scores: dict[str, dict[str, float | None]]

    def as_json(self) -> str:
        """As a JSON object; scores are fractions."""
        told = {"file": str(self.path), "tasks": self.tasks, "read_as": self.read_as}
        return json.dumps(told | {"scores": self.scores}, indent=1, ensure_ascii=False)

    def as_table(self) -> str:
        """As a table for people, in per cent."""
        tasks = f"{self.tasks} task{'s' * (self.tasks != 1)}"
        lines = [f"{self.path}: {tasks}, read as {self.read_as}; rows are time", ""]
        left = max(map(len, LABELS.values())) + 2
        names = [name.replace("_", "-") for name in self.scores]
        lines.append(f"{'in %':<{left}}" + "  ".join(names))
        for score, label in LABELS.items():
            values = [found[score] for found in self.scores.values()]
            cells = (
                f"{_percent(value, score in SIGNED):>{len(name)}}"
                for name, value in zip(names, values, strict=True)
            )
            line = f"{label:<{left}}" + "  ".join(cells)
            lines.append(line + (f"  needs {self._needs(score)}" if None in values else ""))
        return "\n".join(lines)

    def _needs(self, score: str) -> str:
        two = ("backward_transfer", "forgetting", "forward_transfer", "mtil_transfer")
        if self.tasks == 1 and score in two:
            return "two tasks"
        return NEEDS.get(score, "entries that are empty")


def score(
    place: Path,
    images: Sequence[float] | None = None,
    baseline: Sequence[float] | None = None,
    reference: Sequence[float] | None = None,
) -> Scored:
    """The scores of the matrix in a file, or of both matrices in a run's.

    Args:
        place: a CSV file, or a run folder.
        images: test images of each task.
        baseline: accuracy on each task, or one for all, that there is without the stream.
        reference: accuracy on each task of networks that had nothing to keep.

    Raises:
        ClbenchError: for what is no accuracy matrix, or does not fit it, in one line.
    """
    path = place / "accuracy_matrix.csv" if place.is_dir() else place
    if place.is_dir() and not path.exists():
        raise ClbenchError(
            f"{place} holds no accuracy_matrix.csv, which a run leaves once it is finished"
        )
    matrices = read(path)
    accuracies = [m[~np.isnan(m)] for m in matrices.values()]
    greatest = max(float(found.max()) for found in accuracies)
    scale = 100.0 if greatest > 1 else 1.0
    tasks = len(next(iter(matrices.values())))

    def given(option: str, values: Sequence[float] | None) -> Matrix | None:
        if values is None:
            return None
        if len(values) != tasks and not (option == "--baseline" and len(values) == 1):
            raise ClbenchError(f"{option}: {len(values)} numbers for {tasks} tasks: say one a task")
        most = scale if option != "--images" else MOST
        for value in values:
            if not 0 <= value <= most:
                raise ClbenchError(f"{option}: {value:g} is not in 0…{most:g}, as {path} is")
        return np.full(tasks, values) if len(values) == 1 else np.asarray(values)

    counts = given("--images", images)
    if counts is not None and not ((counts >= 1) & (counts % 1 == 0)).all():
        raise ClbenchError("--images: every task has a whole number of them, at least one")
    before, alone = given("--baseline", baseline), given("--reference", reference)
    found = {
        name: all_scores(
            matrix / scale,
            counts,
            None if before is None else before / scale,
            None if alone is None else alone / scale,
        )
        for name, matrix in matrices.items()
    }
    return Scored(path, tasks, "percent" if scale > 1 else "fractions", found)


def read(path: Path) -> dict[str, Matrix]:
    """The matrices in a file, by name: rows are time, columns are tasks, NaN is not measured.

    Cells are parted by commas, semicolons (then 0,5 is a number too), tabs or spaces. A header of
    names, and a column of names or counts before the numbers, may be there. Rows of a run's own
    file are taken in the order of its ``after_task``.

    Raises:
        ClbenchError: for rows of different lengths, cells that are no accuracies, or no square.
    """
    rows = _rows(path)
    if not rows:
        raise ClbenchError(f"{path} is empty: it should hold an accuracy matrix")
    _, first = rows[0]
    if first[:2] == RUN:
        parts: dict[str, list[tuple[int, list[str]]]] = {}
        for number, cells in rows[1:]:
            parts.setdefault(cells[0], []).append((number, cells[1:]))
        if not parts:
            _matrix(path, [])  # says so
        return {
            name: _matrix(path, _in_time(path, part, first[2:])) for name, part in parts.items()
        }
    header = all(_number(cell) is None for cell in first[1:] or first) or _counts(first)
    rows = rows[header:]
    before = [cells[0] for _, cells in rows]
    named = bool(rows) and all(_number(cell) is None for cell in before)
    if named or (header and len(first) == len(rows) + 1 and before in _told(len(rows))):
        rows = [(number, cells[1:]) for number, cells in rows]
    return {"accuracy": _matrix(path, rows)}


def _in_time(
    path: Path, rows: Sequence[tuple[int, list[str]]], tasks: Sequence[str]
) -> list[tuple[int, list[str]]]:
    """Rows without their first cell, the task after which they were measured, in its order."""
    if [cells[0] for _, cells in rows] == list(tasks):  # of which several may be called alike
        return [(number, cells[1:]) for number, cells in rows]
    times = {cells[0]: (number, cells[1:]) for number, cells in rows}
    for told in (list(tasks), *_told(len(rows))):
        if sorted(told) == sorted(times):
            return [times[time] for time in told]
    raise ClbenchError(
        f"{path}, line {rows[0][0]}: after_task should name each column once, and is "
        f"{', '.join(shown(cells[0]) for _, cells in rows[:9])}"
    )


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The cells of each line that is not empty or a comment, with its number."""
    lines = read_file(path).lstrip("\ufeff").splitlines()
    kept = [
        (n, line) for n, line in enumerate(lines, 1) if line.strip(" \t,;")[:1] not in ("", "#")
    ]
    mark = next((m for m in ";\t," if kept and m in kept[0][1]), None)
    rows = []
    for number, line in kept:
        cells = next(csv.reader([line], delimiter=mark)) if mark else line.split()
        if mark == ";":
            cells = [cell.replace(",", ".") for cell in cells]
        rows.append((number, [cell.strip() for cell in cells]))
        if len(cells) != len(rows[0][1]):
            raise ClbenchError(
                f"{path}, line {number}: {len(cells)} cells, but {len(rows[0][1])} in line "
                f"{rows[0][0]}: leave cells empty where nothing was measured"
            )
    return rows


def _matrix(path: Path, rows: Sequence[tuple[int, Sequence[str]]]) -> Matrix:
    width = len(rows[0][1]) if rows else 0
    if len(rows) != width or not width:
        raise ClbenchError(
            f"{path} holds {len(rows)} rows of {width} numbers: an accuracy matrix is square, a "
            "row for the time after each task, a column for each task"
        )
    matrix = np.empty((width, width))
    for row, (number, cells) in enumerate(rows):
        for column, cell in enumerate(cells):
            value = _number(cell)
            where = f"{path}, line {number}, task {column + 1}: {shown(cell)}"
            if value is None:
                raise ClbenchError(f"{where} is no number")
            if value < 0 or value > 100:
                raise ClbenchError(f"{where} is no accuracy: it should be in 0…1, or in 0…100 %")
            matrix[row, column] = value
    if np.isnan(matrix).all():
        raise ClbenchError(f"{path} holds no accuracies: all of its cells are empty")
    return matrix


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are a header as pandas writes it: no number, then some that count tasks."""
    nameless = cells[0] == "" or _number(cells[0]) is None
    return nameless and len(cells) > 2 and list(cells[1:]) in _told(len(cells) - 1)


def _told(count: int) -> list[list[str]]:
    """How so many tasks are counted."""
    return [[str(number + start) for number in range(count)] for start in (0, 1)]


def _number(cell: str) -> float | None:
    """A cell's number, NaN if it is empty, None if it is none."""
    if cell.lower() in EMPTY:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if math.isnan(value) or "_" in cell else value


def _percent(value: float | None, signed: bool) -> str:
    return "–" if value is None else f"{100 * value:{'+' if signed else ''}.2f}"
