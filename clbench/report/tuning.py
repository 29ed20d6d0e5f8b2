"""How the methods were tuned: every try and the choice, from ``tuning.json`` of a suite."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.errors import ClbenchError
from clbench.record import reading
from clbench.text.texts import cut_line

if TYPE_CHECKING:
    from clbench.report.gather import Run

FILE = "tuning.json"
_RUN = re.compile(r"-seed\d+-[0-9a-f]{8}$")


@dataclass(frozen=True)
class Tried:
    """One setting that was tried.

    Attributes:
        number: from 0.
        settings: dotted keys to values.
        value: its score on validation data, a fraction; None if it gave none.
        state: ``finished``, or what became of it.
        reason: why it failed.
        folder: its run folder, below the suite's.
    """

    number: int
    settings: Mapping[str, Any]
    value: float | None
    state: str = ""
    reason: str = ""
    folder: str = ""

    @property
    def words(self) -> str:
        """Its settings for people."""
        pairs = (f"{k.removeprefix('methods.')} = {in_brief(v)}" for k, v in self.settings.items())
        return ", ".join(pairs) or "the recipe as it is"


@dataclass(frozen=True)
class TunedCell:
    """A method on a stream and a backbone.

    Attributes:
        name: of all three.
        method: the suite's name for the method.
        space: where the settings were drawn from.
        tries: all of them.
        chosen: number of the try whose settings were taken; None if none was.
    """

    name: str
    method: str
    space: Mapping[str, Any]
    tries: tuple[Tried, ...]
    chosen: int | None

    @property
    def best(self) -> Tried | None:
        """The try whose settings were taken."""
        return next((one for one in self.tries if one.number == self.chosen), None)

    @property
    def keys(self) -> list[str]:
        """Every setting that was tried, by its dotted key."""
        return list(dict.fromkeys(key for one in self.tries for key in one.settings))


@dataclass(frozen=True)
class Tuned:
    """How a suite was tuned.

    Attributes:
        budget: tries of every method.
        tasks: of the stream that a try learned, from the first.
        scenario: which accuracy counted.
        seed: of the draws and of the tries.
        cells: by stream, backbone and method.
    """

    budget: int
    tasks: int
    scenario: str
    seed: int
    cells: tuple[TunedCell, ...]

    @property
    def sentence(self) -> str:
        """How tries were scored."""
        name = self.scenario.replace("_", "-")
        tries = f"{self.budget} {'try' if self.budget == 1 else 'tries'}"
        alike = all(len(cell.tries) == self.budget for cell in self.cells)
        had = f"had {tries}, no more and no less" if alike else f"was allowed {tries}"
        first = "first task" if self.tasks == 1 else f"first {self.tasks} tasks"
        return (
            f"Every method {had}. A try learned the {first} of the stream with seed "
            f"{self.seed} and was scored by its {name} accuracy on their validation data; test "
            "data were never read. The best try’s settings then ran with all seeds."
        )


def in_brief(value: object) -> str:
    """A setting for people."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def in_words(values: object) -> str:
    """What a setting was drawn from, a range or a list of choices, for people.

    >>> in_words({"low": 0.1, "high": 1, "log": True}), in_words([1, "a"])
    ('0.1 to 1 (log)', '1, a')
    """
    if isinstance(values, dict) and "low" in values and "high" in values:
        rest = [
            key if value is True else f"{key} {in_brief(value)}"
            for key, value in values.items()
            if key not in ("low", "high") and value not in (None, False)
        ]
        text = f"{in_brief(values['low'])} to {in_brief(values['high'])}"
        return f"{text} ({', '.join(rest)})" if rest else text
    return ", ".join(map(in_brief, values)) if isinstance(values, list) else in_brief(values)


def parse_tuning(values: Mapping[str, Any]) -> Tuned:
    """A tuning from the values of ``tuning.json``.

    Raises:
        ClbenchError: if they are not those of a tuning.
    """
    try:
        cells = tuple(
            TunedCell(
                str(cell["name"]),
                str(cell.get("method", cell["name"])),
                dict(cell.get("space") or {}),
                tuple(
                    Tried(
                        int(one.get("number", number)),
                        dict(one.get("settings") or {}),
                        _accuracy(one.get("value")),
                        str(one.get("state") or ""),
                        str(one.get("reason") or ""),
                        str(one.get("folder") or ""),
                    )
                    for number, one in enumerate(cell["tries"])
                ),
                None if cell.get("chosen") is None else int(cell["chosen"]),
            )
            for cell in values["cells"]
        )
        budget = int(values.get("tries") or max((len(c.tries) for c in cells), default=0))
        return Tuned(
            budget,
            int(values.get("tasks") or 1),
            str(values.get("scenario") or "task_incremental"),
            int(values.get("seed") or 0),
            cells,
        )
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ClbenchError(f"this is no tuning ({reason}); was it written by hand?") from error


def tuning_in(path: Path) -> Tuned:
    """The tuning in a file.

    Raises:
        ClbenchError: if it cannot be read.
    """
    try:
        return parse_tuning(reading.json_of(path))
    except (OSError, ClbenchError) as error:
        raise ClbenchError(cut_line(f"{path} cannot be read: {error}")) from error


def tries_of(tunings: Iterable[Tuned], run: Run, method: str) -> int:
    """How many settings were tried for a run, 0 if it was not tuned.

    Args:
        tunings: of the suites.
        run: one of a suite, in a folder that is called by its cell, its seed and a hash; of
            another, only the method and what it ran on tell the cell.
        method: the suite's name for the method.
    """
    cells = [cell for tuning in tunings for cell in tuning.cells]
    named = [cell for cell in cells if cell.name == _RUN.sub("", run.folder.name)]
    alike = [cell for cell in cells if cell.method == method]
    about = run.record.run.stream, run.record.run.backbone
    for part in about:  # a suite of one stream, or one backbone, does not name it
        alike = [cell for cell in alike if part in cell.name] or alike
    return max((len(cell.tries) for cell in named or alike), default=0)


def _accuracy(value: object) -> float | None:
    """The score of a try.

    Raises:
        ValueError: if it is no fraction.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"value = {value!r:.60} is no accuracy")
    return float(value)


def tuning_files(places: Iterable[Path], runs: Iterable[Path]) -> list[Path]:
    """The files ``tuning.json`` in folders that were named, and above the runs in them.

    Args:
        places: what was named.
        runs: run folders; a suite's lie in ``<suite>/runs``.
    """
    folders: dict[Path, None] = {}
    for place in places:
        folders |= dict.fromkeys((place.resolve(), place.resolve().parent))
    for run in runs:
        folders |= dict.fromkeys((run.resolve().parent, run.resolve().parent.parent))
    return [folder / FILE for folder in folders if (folder / FILE).is_file()]
