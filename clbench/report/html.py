"""The report as one page that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from importlib import resources
from string import Template

from clbench import __version__
from clbench.record.record import SCENARIOS, Scenario
from clbench.report import kept
from clbench.report.boards import kept_table, leaderboard, pooled_table
from clbench.report.checks import known
from clbench.report.comparison import Compared
from clbench.report.differences import differences
from clbench.report.drawing import task_colour
from clbench.report.html_runs import runs_of
from clbench.report.html_table import sortable, wide
from clbench.report.html_tuning import tuning_part
from clbench.report.metrics import METRICS, SCENARIO_ABOUT
from clbench.report.pictures import Pictures
from clbench.report.plots import TITLES
from clbench.report.section import Section
from clbench.report.svg import inline
from clbench.report.tables import NOTE


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
    subtitle = (
        f"{groups} methods, {len(runs)} runs ({finished} finished), made by clbench {__version__}."
    )
    template = resources.files("clbench.report").joinpath("template.html").read_text("utf-8")
    return Template(template).substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        warnings=_warnings(comparison),
        contents=_contents(comparison),
        sections="\n".join(
            [
                _all_streams(comparison, pictures),
                *(_section(number, s, pictures) for number, s in enumerate(comparison.sections)),
                tuning_part(comparison.tunings),
            ]
        ),
        notes=_notes(),
        dark=_dark(comparison),
    )


def _dark(comparison: Compared) -> str:
    """Colours of the tasks' curves on a dark page, by those on a light one."""
    pairs = {
        task_colour(task, len(s.tasks)): task_colour(task, len(s.tasks), dark=True)
        for s in comparison.sections
        for task in range(len(s.tasks))
    }
    return " ".join(f"--c{light[1:]}: {dark};" for light, dark in pairs.items())


def _warnings(comparison: Compared) -> str:
    lines = list(comparison.warnings)
    many = len(comparison.sections) > 1
    for section in comparison.sections:
        lines += [f"{section.title}: {w}" if many else w for w in section.warnings]
    lines += [f"{name} failed: {reason}" for name, reason in comparison.failures.items()]
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in comparison.notes)
    if not lines:
        return f'<p class="soft">No warnings: {escape(known(comparison.runs))}.</p>{notes}'
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (
        '<section class="warnings" aria-labelledby="warnings"><strong id="warnings">'
        f"Before you trust the numbers ({len(lines)})</strong><ul>{items}</ul></section>{notes}"
    )


def _contents(comparison: Compared) -> str:
    links = [("all", "All streams")] if pooled_table(comparison, SCENARIOS[0]) else []
    for number, section in enumerate(comparison.sections):
        links.append((f"s{number}", section.title))
        links.append((f"s{number}-runs", f"Runs: {section.title}"))
    if comparison.tunings:
        links.append(("tuning", "Tuning"))
    links.append(("how", "How to read this"))
    items = "".join(f'<li><a href="#{key}">{escape(text)}</a></li>' for key, text in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _all_streams(comparison: Compared, pictures: Pictures) -> str:
    tables = [(s, pooled_table(comparison, s)) for s in comparison.scenarios]
    if not any(table for _, table in tables):
        return ""
    shown = {line[0].text for _, table in tables if table for line in table.body}
    every = {group.label for section in comparison.sections for group in section.groups}
    left = sorted(every - shown)
    parts = ['<section><h2 id="all">All streams</h2>']
    parts.append(
        '<p class="soft">Mean over streams, each counting alike; in brackets 95 % intervals, which '
        "ranks have from five seeds of every stream. The rank is that of overall performance among "
        "the methods; the multitask bound has none."
        + (
            f" Without a score on every stream, so not here: {escape(', '.join(left))}."
            if left
            else ""
        )
        + "</p>"
    )
    for scenario, table in tables:
        if table:
            parts.append(sortable(table, f"All streams, {comparison.scenarios[scenario]}"))
    parts += _figures(None, pictures, comparison.scenarios)
    return "\n".join([*parts, "</section>"])


def _section(number: int, section: Section, pictures: Pictures) -> str:
    parts = [f'<section><h2 id="s{number}">{escape(section.title)}</h2>']
    for scenario, name in section.scenarios.items():
        parts.append(f"<h3>Leaderboard, {name}</h3>")
        parts.append(f'<p class="soft">Here the model {SCENARIO_ABOUT[name]}. {NOTE}</p>')
        parts.append(sortable(leaderboard(section, scenario), f"Leaderboard, {name}"))
        if differ := differences(section, scenario):
            parts.append(f"<h3>What differs besides the method, {name}</h3>")
            parts.append(sortable(differ, f"Differences and what else differs, {name}"))
    tables = [(s, kept_table([section], s)) for s in section.scenarios]
    if any(table for _, table in tables):
        parts.append("<h3>Retention and target</h3>")
        parts.append(f'<p class="soft">{escape(kept.NOTE)}</p>')
    for scenario, table in tables:
        if table:
            parts.append(sortable(table, f"Retention and target, {section.scenarios[scenario]}"))
    parts += _figures(number, pictures, section.scenarios)
    if not any(key[0] == number and key[2] == "frontier" for key in pictures):
        parts.append("<p>No frontier: no finished run measured retention of pretraining.</p>")
    parts.append(f'<h3 id="s{number}-runs">Runs</h3>')
    parts += [runs_of(group) for group in section.groups]
    return "\n".join([*parts, "</section>"])


def _figures(
    number: int | None, pictures: Pictures, titles: Mapping[Scenario, str]
) -> Iterator[str]:
    """The figures of a section, or of all of them together."""
    for figure, title in TITLES.items():
        shown = [
            (s, pictures[number, s, figure]) for s in titles if (number, s, figure) in pictures
        ]
        if not shown:
            continue
        yield f"<h3>{escape(title)}</h3>"
        for scenario, (svg, text) in shown:
            label = f"{title}, {titles[scenario]}"
            key = f"p{'all' if number is None else number}-{scenario[0]}-{figure}"
            drawing = wide(inline(svg, key, label, text), label)
            yield f"<figure>{drawing}<figcaption>{escape(text)}</figcaption></figure>"


def _notes() -> str:
    terms = "".join(
        f"<dt><strong>{escape(m.label)}</strong></dt><dd>{escape(m.about)}</dd>"
        for m in METRICS.values()
    )
    return (
        "<p>A line is a method; its seeds are all runs that differ in nothing else. Behind the "
        "mean stands the standard deviation between seeds; below it, in brackets, a 95 % interval "
        "of the mean. With three or four seeds it is a t interval, marked t. With five or more it "
        "is a bootstrap’s: whole runs are drawn anew, stratified by stream (Agarwal et al., 2021); "
        "of normally distributed scores it holds the true mean in 84 % of cases with five seeds, "
        "90 % with ten and 93 % with twenty. Two seeds give no interval: their two values stand "
        "there instead; of one seed nothing is known but its value.</p>"
        "<p>Differences (Δ) pair runs of the same seed; their brackets are 95 % t intervals, for "
        "which two pairs suffice. ≈ marks what is within noise: the interval contains 0, or, as "
        "many methods are compared with one baseline, the p value is 0.05 or more after Holm’s "
        "correction over those that the column tests. † marks a difference that is no test of the "
        "method, as more than the method differs; a method is compared with the baseline that "
        "differs in nothing else, if there is one. ≈ beside a score is not corrected. Every number "
        "leads to its runs.</p>"
        "<p>“Could see” is the smallest difference that so many seeds show with 80 % power, given "
        "how much the differences spread: of a smaller one, “within noise” says nothing. Scope, in "
        "0…1, is how much a method could do; below 0.1 it could do next to nothing, and is named "
        "at the top.</p>"
        f"<dl>{terms}</dl>"
    )
