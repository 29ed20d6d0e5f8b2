"""The report as one page that needs nothing else: no network, no other file.

What the page says stands in ``templates/``; here is what they are given. Everything is escaped
there but the figures, whose texts are escaped where they are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment

from clbench import __version__
from clbench.record.record import Scenario
from clbench.report import kept, kept_by, representation
from clbench.report.boards import kept_table, leaderboard, pooled_table
from clbench.report.checks import known
from clbench.report.comparison import Compared
from clbench.report.differences import differences
from clbench.report.drawing import task_colour
from clbench.report.gather import Run
from clbench.report.metrics import METRICS, SCENARIO_ABOUT, show
from clbench.report.orders import orders_tables
from clbench.report.pictures import Pictures
from clbench.report.plots import TITLES
from clbench.report.section import Section
from clbench.report.svg import inline
from clbench.report.tables import NOTE
from clbench.report.templating import templates_of
from clbench.report.tuning import in_brief, in_words
from clbench.text.numbers import counted

#: Scores of a single run that the page shows of every scenario.
PER_RUN = (
    "overall_performance",
    "average_incremental_accuracy",
    "backward_transfer",
    "forgetting",
    "learning_accuracy",
)


def page(comparison: Compared, pictures: Pictures, title: str) -> str:
    """The whole page.

    Args:
        comparison: what to show.
        pictures: the figures, as made by :func:`clbench.report.pictures.draw`.
        title: the page's heading.
    """
    runs = comparison.runs
    finished = sum(run.finished for run in runs)
    groups = sum(len(section.groups) for section in comparison.sections)
    template = _templates().get_template("report.html")
    return template.render(
        title=title,
        subtitle=f"{counted(groups, 'method')}, {counted(len(runs), 'run')} ({finished} finished), "
        f"made by clbench {__version__}.",
        warnings=list(_warnings(comparison)),
        known=known(runs),
        notes=comparison.notes,
        pooled=_pooled(comparison, pictures),
        orders=orders_tables(comparison),
        sections=[_section(n, s, pictures) for n, s in enumerate(comparison.sections)],
        tunings=comparison.tunings,
        colours={
            task_colour(task, len(s.tasks)): task_colour(task, len(s.tasks), dark=True)
            for s in comparison.sections
            for task in range(len(s.tasks))
        },
    )


@cache
def _templates() -> Environment:
    made = templates_of("clbench.report")
    made.globals |= {
        "metrics": METRICS,
        "per_run": PER_RUN,
        "board_note": NOTE,
        "kept_note": kept.NOTE,
        "kept_by_note": kept_by.NOTE,
        "representation_note": representation.NOTE,
        "marks": {"best": "best", "tie": "within noise of the best"},
    }
    made.filters |= {
        "line": _line,
        "yaml": _yaml,
        "accuracy": lambda value: show(value, "accuracy"),
        "in_words": in_words,
        "plain": in_brief,
    }
    return made


def _warnings(comparison: Compared) -> Iterator[str]:
    yield from comparison.warnings
    many = len(comparison.sections) > 1
    for section in comparison.sections:
        yield from (f"{section.title}: {w}" if many else w for w in section.warnings)
    yield from (f"{name} failed: {reason}" for name, reason in comparison.failures.items())
    yield from (f"{name} was left out: {reason}" for name, reason in comparison.skipped.items())


def _pooled(comparison: Compared, pictures: Pictures) -> dict[str, Any]:
    """All streams together; no boards if there is only one."""
    titles = comparison.scenarios
    found = [(title, pooled_table(comparison, s)) for s, title in titles.items()]
    boards = [(f"All streams, {title}", table) for title, table in found if table]
    shown = {line[0].text for _, table in boards for line in table.body}
    every = {group.label for section in comparison.sections for group in section.groups}
    return {
        "boards": boards,
        "left": sorted(every - shown),
        "figures": list(_figures(None, pictures, titles)),
    }


def _section(number: int, section: Section, pictures: Pictures) -> dict[str, Any]:
    titles = section.scenarios
    tables = [(title, kept_table([section], s)) for s, title in titles.items()]
    return {
        "title": section.title,
        "boards": [
            (title, SCENARIO_ABOUT[title], leaderboard(section, s), differences(section, s))
            for s, title in titles.items()
        ],
        "kept": [(f"Retention and target, {title}", table) for title, table in tables if table],
        "kept_by": kept_by.kept_by_tables(section),
        "representation": representation.representation_table(section),
        "figures": list(_figures(number, pictures, titles)),
        "frontier": any(
            (number, s, name) in pictures
            for s in titles
            for name in ("frontier", "frontier_by_measure")
        ),
        "groups": section.groups,
    }


def _figures(
    number: int | None, pictures: Pictures, titles: Mapping[Scenario, str]
) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Title of each figure, and of each scenario that has it the name, drawing and description."""
    for figure, title in TITLES.items():
        drawn = []
        for scenario, of in titles.items():
            if (number, scenario, figure) in pictures:
                svg, text = pictures[number, scenario, figure]
                key = f"p{'all' if number is None else number}-{scenario[0]}-{figure}"
                label = f"{title}, {of}"
                drawn.append((label, inline(svg, key, label, text), text))
        if drawn:
            yield title, drawn


def _line(run: Run) -> dict[str, Any]:
    """What the page says of a single run."""
    about = run.record.run
    metrics = [(m, s) for s in run.record.scenarios for m in PER_RUN]
    metrics += [("retention", "task_incremental"), ("seconds", "task_incremental")]
    return {
        "folder": run.folder,
        "seed": run.seed,
        "tasks": f"{len(run.record.tasks)}/{len(about.tasks)}",
        "scores": [show(run.score(m, s), METRICS[m].unit) for m, s in metrics],
        "environment": run.environment_hash,
        "source": about.weights.source or "?",
        "digest": about.weights.sha256 or "?",
        "splits": about.split_manifest_sha256 or "?",
    }


def _yaml(recipe: Mapping[str, Any]) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # five times as fast
    return yaml.dump(dict(recipe), None, dumper, sort_keys=False)
