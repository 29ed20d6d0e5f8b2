"""A sweep on the screen and as a picture."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clbench.files.disk import write_atomic, writing_to
from clbench.record.record import Scenario
from clbench.report.figures import PERFORMANCE
from clbench.report.fonts import drawable, literal
from clbench.runner.screen import percent
from clbench.sweep.sweeping import Row, Sweep
from clbench.text.texts import cut_line

SIGNS = {"alpha": "α", "scale": "λ", "density": "density"}
CHOSEN, ORACLE, OWN = "pick on validation", "oracle, best on test", "the run as it was"


def show(sweep: Sweep, folder: Path, console: Console | None = None) -> None:
    """Print the table of a sweep, what was picked, and where its files are."""
    console = console or Console(soft_wrap=True)
    sign = SIGNS.get(sweep.parameter, sweep.parameter)
    table = Table(
        title=f"{escape(sweep.run)}: {sign} of {sweep.method}, in % "
        f"({' / '.join(sweep.scenarios.values())})",
        title_justify="left",
    )
    for column in (sign, "validation", "OP", "BWT", "retention"):
        table.add_column(column, justify="right")
    table.add_column("", no_wrap=True)
    for number, row in enumerate(sweep.rows):
        table.add_row(
            f"{row.value:g}",
            pair(sweep.scenarios, row.validation),
            pair(sweep.scenarios, row.overall_performance),
            pair(sweep.scenarios, row.backward_transfer, signed=True),
            percent(row.retention),
            ", ".join(_marks(sweep, number)),
        )
    console.print(table)
    by = sweep.scenarios.get(sweep.by, "domain-incremental")
    if sweep.chosen is None:
        console.print("No pick: nothing was held out for validation (stream.validation: 0).")
    else:
        chosen, oracle = sweep.rows[sweep.chosen], sweep.rows[sweep.oracle]
        best = percent(oracle.overall_performance[sweep.by])
        console.print(
            f"Picked by {by} validation accuracy: {sign} = {chosen.value:g}, OP "
            f"{percent(chosen.overall_performance[sweep.by])} %. Oracle, best on test: {sign} = "
            f"{oracle.value:g}, OP {best} %."
        )
    if all(x is None for row in sweep.rows for x in row.backward_transfer.values()):
        console.print("No BWT: it needs the weights of several tasks (checkpoints: all).")
    if sweep.reproduced is False:
        recorded = pair(sweep.scenarios, sweep.own.overall_performance)
        console.print(
            f"[bold red]WARNING: at {sign} = {sweep.own.value:g}, the run's own, OP is not the "
            f"recorded {recorded} %: other hardware or versions?"
        )
    names = f"{sweep.name}.json  {sweep.name}.png"
    console.print(f"Files in {escape(str(folder))}:\n  {names}", highlight=False)


def write_figure(sweep: Sweep, folder: Path) -> None:
    """Write the picture of a sweep, PNG, into the run folder."""
    buffer = io.BytesIO()
    figure(sweep).savefig(buffer, format="png", dpi=150)
    with writing_to(folder, "sweep again"):
        write_atomic(folder / f"{sweep.name}.png", buffer.getvalue())


def figure(sweep: Sweep) -> Figure:
    """The picture of a sweep; see :func:`_figure`."""
    with literal([sweep.run]):
        return _figure(sweep)


def _figure(sweep: Sweep) -> Figure:
    """OP against retention, the parameter along the curve, for each scenario.

    Where retention was not measured: OP and validation accuracy over the parameter.
    """
    sign = SIGNS.get(sweep.parameter, sweep.parameter)
    panels = len(sweep.scenarios)
    made = Figure(figsize=(5.5 * panels, 4.6), layout="constrained")
    axes = made.subplots(1, panels, squeeze=False)[0]
    trade_off = all(row.retention is not None for row in sweep.rows)
    for axis, (scenario, title) in zip(axes, sweep.scenarios.items(), strict=True):
        if trade_off:
            places = [row.retention for row in sweep.rows]
        else:
            places = [row.value for row in sweep.rows]
        heights = [row.overall_performance[scenario] for row in sweep.rows]
        axis.plot(places, heights, color="0.7", lw=1.2, zorder=1)
        points = axis.scatter(
            places, heights, c=[row.value for row in sweep.rows], cmap="viridis", s=26, zorder=3
        )
        if trade_off:
            _name_ends(axis, sweep, scenario, sign)
            axis.xaxis.set_major_formatter(PercentFormatter(1))
            axis.set_xlabel("retention of pretraining (top-1)")
        else:
            if all(row.validation for row in sweep.rows):
                held_out = [row.validation[scenario] for row in sweep.rows if row.validation]
                axis.plot(places, held_out, ":", color=PERFORMANCE, label="validation accuracy")
            axis.set_xlabel(sign)
        _mark(axis, sweep, scenario, trade_off)
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        axis.set_title(title + (" (picks)" if scenario == sweep.by else ""))
        axis.margins(0.08, 0.12)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("overall performance (OP), test")
    if trade_off:
        made.colorbar(points, ax=axes, label=sign)
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    made.suptitle(f"{drawable(cut_line(sweep.run, 60))}: {sign} of {sweep.method} after training")
    return made


def _mark(axis: Axes, sweep: Sweep, scenario: Scenario, trade_off: bool) -> None:
    """Circles and stars around the rows that matter."""
    marks: list[tuple[Row, str, str, str, int]] = [
        (sweep.rows[sweep.oracle], ORACLE, "*", "#b5432a", 230),
        (sweep.own, OWN, "s", "black", 130),
    ]
    if sweep.chosen is not None:
        marks.append((sweep.rows[sweep.chosen], CHOSEN, "o", PERFORMANCE, 130))
    for row, label, marker, colour, size in marks:
        place = row.retention if trade_off else row.value
        if place is not None:
            height = row.overall_performance[scenario]
            axis.scatter(
                [place],
                [height],
                s=size,
                marker=marker,
                facecolors="none",
                edgecolors=colour,
                linewidths=1.6,
                label=label,
                zorder=4,
            )


def _name_ends(axis: Axes, sweep: Sweep, scenario: Scenario, sign: str) -> None:
    for row in {0: sweep.rows[0], 1: sweep.rows[-1]}.values():
        axis.annotate(
            f"{sign} = {row.value:g}",
            (row.retention, row.overall_performance[scenario]),
            xytext=(6, -14),
            textcoords="offset points",
            fontsize=8,
        )


def _marks(sweep: Sweep, number: int) -> list[str]:
    rows = {"pick": sweep.chosen, "oracle": sweep.oracle}
    marks = [label for label, row in rows.items() if row == number]
    return [*marks, "run"] if sweep.rows[number].value == sweep.own.value else marks


def pair(
    scenarios: Iterable[str],
    values: dict[str, float] | dict[str, float | None] | None,
    signed: bool = False,
) -> str:
    """The numbers of both scenarios, or of the one there is; a dash without any."""
    if values is None or all(value is None for value in values.values()):
        return "–"
    return " / ".join(percent(values[scenario], signed) for scenario in scenarios)
