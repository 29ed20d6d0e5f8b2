"""``clbench report``: a folder with the page, the tables and the figures of a comparison."""

from __future__ import annotations

from pathlib import Path

from clbench.errors import ClbenchError
from clbench.files.disk import write_atomic
from clbench.record.record import SCENARIOS, Scenario
from clbench.report import tables
from clbench.report.comparison import Compared
from clbench.report.html import page
from clbench.report.orders import orders_csv
from clbench.report.pictures import draw
from clbench.report.plots import TITLES
from clbench.text.texts import slug, writable


def build(comparison: Compared, output: Path, title: str = "clbench report") -> Path:
    """Write the report.

    Args:
        comparison: what to report.
        output: the folder; what an earlier report left in it is replaced.
        title: the page's heading.

    Returns:
        The path of ``report.html``.

    Raises:
        ClbenchError: if the folder cannot be written.
    """
    pictures = draw(comparison)
    files = {
        **{_figure_file(comparison, *place): svg for place, (svg, _) in pictures.items()},
        "retention.csv": tables.kept_csv(comparison),
        "measures.csv": tables.measures_csv(comparison),
        "representation.csv": tables.representation_csv(comparison),
        "all_streams.csv": tables.pooled_csv(comparison),
        "class_orders.csv": orders_csv(comparison),
        "tuning.csv": tables.tuning_csv(comparison),
        "leaderboard.csv": tables.leaderboard_csv(comparison),
        "runs.csv": tables.runs_csv(comparison),
        "leaderboard.md": tables.markdown(comparison),
        "leaderboard.tex": tables.latex(comparison),
        "report.html": page(comparison, pictures, title),
    }
    ours = [f"figures/{name}-{scenario}*.svg" for name in TITLES for scenario in SCENARIOS]
    try:
        (output / "figures").mkdir(parents=True, exist_ok=True)
        there = {path.relative_to(output).as_posix() for o in ours for path in output.glob(o)}
        for name in there - files.keys():  # of an earlier report
            (output / name).unlink()
        for name, text in files.items():
            if text.strip():
                write_atomic(output / name, writable(text))
            else:  # there may be one of an earlier report
                (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise ClbenchError(f"the report cannot be written to {output}: {error}") from error
    return output / "report.html"


def _figure_file(comparison: Compared, number: int | None, scenario: Scenario, name: str) -> str:
    file = f"figures/{name}-{scenario}"
    if number is not None:
        file += f"-{number}-{slug(comparison.sections[number].title, 80)}".rstrip("-")
    return f"{file}.svg"
