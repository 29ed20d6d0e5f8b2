"""A run and a comparison as notebooks show them: a small table and a drawing, in HTML.

Colours follow the notebook's, dark or light. Everything from outside is escaped; nothing is a
script, and nothing is fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from clbench.record.baselines import PLAIN
from clbench.record.record import Record, Scenario
from clbench.report.comparison import Compared
from clbench.report.drawing import task_colour
from clbench.report.metrics import METRICS, show
from clbench.report.section import Section, Standing
from clbench.report.templating import templates_of
from clbench.text.numbers import counted
from clbench.text.texts import cut_line

#: Scores of a run that the table shows.
SCORES: Final = (
    "overall_performance",
    "average_incremental_accuracy",
    "backward_transfer",
    "forgetting",
    "learning_accuracy",
)
#: Scores of a comparison's methods in every scenario, and those that are the same in all.
OF_METHODS: Final = ("overall_performance", "backward_transfer")
OF_ALL: Final = ("retention",)
#: Methods of a stream, and streams, that are shown; the rest is counted.
METHODS, SECTIONS = 12, 3
#: Figures of a stream, the first that has something to show.
FIGURES: Final = ("frontier", "bars")
#: Longer names are cut.
LONGEST: Final = 80


def score_rows(record: Record) -> Iterator[dict[str, Any]]:
    """A flat row for each scenario of a run; accuracies are fractions in 0…1."""
    summary = record.summary()
    kept, cost, footprint = summary["retention"], summary["cost"], summary["footprint"]
    end = kept["pretrained"] is not None and kept["change"] is not None
    for scenario in record.scenarios:
        known = {name: summary[scenario].get(name) for name in METRICS if name in summary[scenario]}
        yield {
            "stream": record.run.stream,
            "scenario": scenario,
            "method": _method(record),
            "seed": record.run.seed,
            **known,
            "retention": kept["pretrained"] + kept["change"] if end else None,
            "kept": kept["kept"],
            "seconds": cost["seconds"],
            "flops": cost["flops"],
            "stored_bytes": footprint["stored_bytes"],
            "finished": record.finished,
        }


def run_html(record: Record) -> str:
    """A run: what it is, its scores, and the curves of its tasks."""
    rows = list(score_rows(record)) if record.tasks else []
    heads = ["in %", *record.scenarios.values()]
    body = [
        [METRICS[name].label, *(show(row[name], METRICS[name].unit) for row in rows)]
        for name in SCORES
    ]
    if rows and rows[0]["retention"] is not None:
        body.append(["Retention", *[show(row["retention"], "accuracy") for row in rows]])
    run = record.run
    done = f"{len(record.tasks)} of {len(run.tasks)} tasks"
    about = [
        cut_line(run.stream, LONGEST),
        cut_line(run.backbone, LONGEST),
        f"seed {run.seed}",
        f"{len(run.tasks)} tasks" if record.finished else f"not finished: {done}",
    ]
    drawing = _run_drawing(record) if record.tasks else ""
    tables = [_table("", heads, body if rows else [])]
    return _page(cut_line(run.title, LONGEST), ", ".join(about), tables, drawing, len(run.tasks))


def comparison_html(comparison: Compared) -> str:
    """A comparison: methods over seeds on each stream, and the trade-off on the first."""
    runs, sections = comparison.runs, comparison.sections
    tables = [_board(section) for section in sections[:SECTIONS]]
    warnings = len(comparison.warnings) + sum(len(s.warnings) for s in sections)
    about = [counted(len(runs), "run"), counted(warnings, "warning")]
    if len(sections) > SECTIONS:
        about.append(f"{counted(len(sections) - SECTIONS, 'more stream')} (.table() has all)")
    drawing = _section_drawing(sections[0]) if sections else ""
    tasks = max((len(section.tasks) for section in sections), default=1)
    return _page("Comparison", ", ".join(about), tables, drawing, tasks)


def _method(record: Record) -> str:
    return "+".join(record.run.methods) or PLAIN


def _board(section: Section) -> Mapping[str, Any]:
    """A stream's methods, the best first."""
    titles, standings = section.scenarios, dict[Scenario, dict[int, Standing]]()
    for scenario in titles:
        rows = section.leaderboard(scenario)
        standings[scenario] = {row.group.number: row for row in rows}
    columns = [(s, name) for s in titles for name in OF_METHODS]
    columns += [(next(iter(titles)), name) for name in OF_ALL]
    shown = [
        (s, name)
        for s, name in columns
        if any(row.scores[name] is not None for row in standings[s].values())
    ]
    order = section.leaderboard(next(iter(titles)))
    heads = ["method", "seeds"]
    heads += [METRICS[n].label + ("" if n in OF_ALL else f", {titles[s]}") for s, n in shown]
    body = [
        [
            cut_line(row.group.label, LONGEST),
            str(len(row.group.finished)),
            *(_score(standings[s][row.group.number], name) for s, name in shown),
        ]
        for row in order[:METHODS]
    ]
    more = len(order) - METHODS
    note = f"; {more} more methods" if more > 0 else ""
    return _table(f"{section.title} (in %, mean ± deviation over seeds{note})", heads, body)


def _score(standing: Standing, name: str) -> str:
    found, unit = standing.scores[name], METRICS[name].unit
    if found is None:
        return "–"
    spread = f" ± {show(found.std, 'accuracy')}" if found.std is not None else ""
    return f"{show(found.mean, unit)}{spread}"


def _run_drawing(record: Record) -> str:
    from clbench.report.figures import draw_figure  # matplotlib takes a while
    from clbench.report.svg import styled

    with styled():
        figure = draw_figure(record, "curves")
        figure.suptitle("")  # stands above
        return _inline(figure, "Accuracy of every task over the steps of the stream")


def _section_drawing(section: Section) -> str:
    from clbench.report.plots import PLOTS
    from clbench.report.plots import TITLES as PLOT_TITLES
    from clbench.report.svg import styled

    scenario = list(section.scenarios)[-1]
    with styled():
        for name in FIGURES:
            made = PLOTS[name](section, scenario)
            if made is not None:
                title = f"{PLOT_TITLES[name]}, {section.scenarios[scenario]}"
                return _inline(made[0], title, made[1])
    return ""


def _inline(figure: Any, title: str, about: str = "") -> str:
    from clbench.report.svg import inline, to_svg

    svg = to_svg(figure)
    key = f"clbench-{hashlib.sha256(svg.encode()).hexdigest()[:10]}"
    return inline(svg, key, title, about or title)


def _table(title: str, heads: list[str], body: list[list[str]]) -> Mapping[str, Any]:
    return {"title": title, "heads": heads, "body": body}


def _page(title: str, about: str, tables: list[Mapping[str, Any]], drawing: str, tasks: int) -> str:
    dark = [
        (task_colour(task, tasks)[1:], task_colour(task, tasks, dark=True))
        for task in range(min(tasks, 100))
    ]
    told = {"title": title, "about": about, "tables": tables, "drawing": drawing, "dark": dark}
    return str(_template().render(told)).removesuffix("\n")


@cache
def _template() -> Any:
    return templates_of("clbench.report").get_template("notebook.html")
