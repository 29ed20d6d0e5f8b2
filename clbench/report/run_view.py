"""A run's record at home in a notebook: shown richly, with its table and its figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from clbench.errors import ClbenchError
from clbench.explain import nearest
from clbench.record.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Figures of a run by the names that a comparison's have too, where it has them.
NAMES = {
    "matrix": "accuracy_matrix",
    "curves": "curves",
    "performance_and_retention": "performance_and_retention",
}


@final
@dataclass(frozen=True, eq=False, repr=False)
class RunView(Record):
    """The record of a run, with its table and figures; ``clbench.Record`` is this class."""

    def __repr__(self) -> str:
        """One line: a record's events are thousands of numbers."""
        told = f"{len(self.tasks)} of {len(self.run.tasks)} tasks" if self.events else "no task"
        return f"clbench.Record.load({str(self.folder)!r}), {told}"

    def table(self) -> Any:
        """The scores as a pandas frame: a row for each scenario, columns as in a comparison's.

        Scores are fractions, and None where they are not known.

        Raises:
            ClbenchError: if pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-untyped,unused-ignore]
        except ImportError as error:
            raise ClbenchError("tables need pandas: pip install pandas") from error
        from clbench.report.notebook import score_rows

        return pd.DataFrame(list(score_rows(self)))

    def figure(self, name: str) -> Figure:
        """One of the run's figures, for matplotlib.

        Args:
            name: ``matrix``, ``curves`` or ``performance_and_retention``.

        Raises:
            ClbenchError: if there is no such figure, or no task is learned yet.
        """
        if name not in NAMES:
            near = nearest(name, list(NAMES))
            raise ClbenchError(f"there is no figure {name!r}{near}; there are {', '.join(NAMES)}")
        if not self.tasks:
            raise ClbenchError(f"{name} has nothing to show: no task is learned yet")
        from clbench.report.figures import draw_figure  # matplotlib takes a while

        return draw_figure(self, NAMES[name])

    def _repr_html_(self) -> str:
        """What a notebook shows: the scores and the curves, without script or network."""
        from clbench.report.notebook import run_html

        return run_html(self)
