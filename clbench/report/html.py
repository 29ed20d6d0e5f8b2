"""The report as one page that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from string import Template

import yaml

from clbench import __version__
from clbench.record import SCENARIOS, Scenario
from clbench.report.compare import Comparison, Group, Row, Section
from clbench.report.drawing import task_colour
from clbench.report.gather import Run
from clbench.report.metrics import METRICS, SCENARIO_ABOUT, SCENARIO_TITLES, show
from clbench.report.plots import TITLES
from clbench.report.svg import inline
from clbench.report.tables import COLUMNS, NOTE

#: SVG text and its description by section, scenario and figure.
Pictures = Mapping[tuple[int, Scenario, str], tuple[str, str]]


def page(comparison: Comparison, pictures: Pictures, title: str) -> str:
    """The whole page.

    Args:
        comparison: what to show.
        pictures: the figures, as made by :func:`clbench.report.build.draw`.
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
            _section(number, section, pictures)
            for number, section in enumerate(comparison.sections)
        ),
        notes=_notes(),
        dark=_dark(comparison),
    )


def _dark(comparison: Comparison) -> str:
    """Colours of the tasks' curves on a dark page, by those on a light one."""
    pairs = {
        task_colour(task, len(s.tasks)): task_colour(task, len(s.tasks), dark=True)
        for s in comparison.sections
        for task in range(len(s.tasks))
    }
    return " ".join(f"--c{light[1:]}: {dark};" for light, dark in pairs.items())


def _warnings(comparison: Comparison) -> str:
    lines = list(comparison.warnings)
    many = len(comparison.sections) > 1
    for section in comparison.sections:
        lines += [f"{section.title}: {w}" if many else w for w in section.warnings]
    lines += [f"{name} failed: {reason}" for name, reason in comparison.failures.items()]
    if not lines:
        return '<p class="soft">No warnings: same splits, weights and versions throughout.</p>'
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (
        '<section class="warnings" aria-labelledby="warnings"><strong id="warnings">'
        f"Before you trust the numbers ({len(lines)})</strong><ul>{items}</ul></section>"
    )


def _contents(comparison: Comparison) -> str:
    links = []
    for number, section in enumerate(comparison.sections):
        links.append((f"s{number}", section.title))
        links.append((f"s{number}-runs", f"Runs: {section.title}"))
    links.append(("how", "How to read this"))
    items = "".join(f'<li><a href="#{key}">{escape(text)}</a></li>' for key, text in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _section(number: int, section: Section, pictures: Pictures) -> str:
    parts = [f'<section><h2 id="s{number}">{escape(section.title)}</h2>']
    for scenario in SCENARIOS:
        name = SCENARIO_TITLES[scenario]
        parts.append(f"<h3>Leaderboard, {name}</h3>")
        parts.append(f'<p class="soft">Here the model {SCENARIO_ABOUT[scenario]}. {NOTE}</p>')
        parts.append(_board(section, scenario))
    for figure, title in TITLES.items():
        shown = [
            (s, pictures[number, s, figure]) for s in SCENARIOS if (number, s, figure) in pictures
        ]
        if not shown:
            continue
        parts.append(f"<h3>{escape(title)}</h3>")
        for scenario, (svg, text) in shown:
            name = SCENARIO_TITLES[scenario]
            key = f"p{number}-{scenario[0]}-{figure}"
            label = f"{title}, {name}"
            parts.append(
                f'<figure><div class="wide" tabindex="0" role="group" aria-label="{escape(label)}">'
                f"{inline(svg, key, label, text)}</div><figcaption>{escape(text)}</figcaption>"
                "</figure>"
            )
    if not any(key[0] == number and key[2] == "frontier" for key in pictures):
        parts.append("<p>No frontier: no finished run measured retention of pretraining.</p>")
    parts.append(f'<h3 id="s{number}-runs">Runs</h3>')
    parts += [_group(group) for group in section.groups]
    return "\n".join([*parts, "</section>"])


def _board(section: Section, scenario: Scenario) -> str:
    rows = section.leaderboard(scenario)
    shown = [c for c in COLUMNS if any(_shows(row, *c) for row in rows)]
    heads = ['<th scope="col" data-first="ascending"><button type="button">Method</button></th>']
    heads.append('<th scope="col"><button type="button">Seeds</button></th>')
    for metric, baseline in shown:
        about = METRICS[metric]
        label = f"Δ {about.label} to {baseline}" if baseline else about.label
        text = f"paired difference from {baseline}: {about.about}" if baseline else about.about
        first = "descending" if about.better > 0 else "ascending"
        sort = ' aria-sort="descending"' if (metric, baseline) == COLUMNS[0] else ""
        heads.append(
            f'<th scope="col" data-first="{first}"{sort}><button type="button" '
            f'title="{escape(text)}">{escape(label)}</button></th>'
        )
    lines = []
    for row in rows:
        group = row.group
        cells = [
            f'<th scope="row" data-value="{escape(group.label)}">'
            f'<a href="#g{group.number}">{escape(group.label)}</a></th>',
            f'<td data-value="{len(group.finished)}">{len(group.finished)}</td>',
            *(_cell(row, *column) for column in shown),
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    caption = f"{section.title}, {SCENARIO_TITLES[scenario]}"
    label = f"Leaderboard, {SCENARIO_TITLES[scenario]}"
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{escape(label)}">'
        f'<table class="board"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _shows(row: Row, metric: str, baseline: str | None) -> bool:
    return bool(row.versus[baseline].get(metric) if baseline else row.scores[metric])


def _cell(row: Row, metric: str, baseline: str | None) -> str:
    unit, kind, mark = METRICS[metric].unit, "", ""
    small, value, text = "", "", "–"
    if baseline:
        gap = row.versus[baseline].get(metric)
        if gap is not None:
            value, text = repr(gap.mean), show(gap.mean, unit, True)
            if gap.low is not None and gap.high is not None:
                small = f"[{show(gap.low, unit, True)}, {show(gap.high, unit, True)}]"
            mark = " ≈" if gap.within_noise else ""
    else:
        found = row.scores[metric]
        if found is not None:
            value, text = repr(found.mean), show(found.mean, unit)
            if unit in ("accuracy", "change", "seconds") and found.std is not None:
                text += f" ± {show(found.std, 'accuracy' if unit == 'change' else unit)}"
            if unit in ("accuracy", "change") and found.low is not None:
                small = f"[{show(found.low, unit)}, {show(found.high, unit)}]"
            kind = row.marks.get(metric, "")
            mark = {"tie": " ≈"}.get(kind, "")
    if not value:
        return '<td data-value="">–</td>'
    small = f"<small>{escape(small)}</small>" if small else ""
    says = {"best": "best", "tie": "within noise of the best"}.get(kind)
    title = f' title="{says}"' if says else ""
    return (
        f'<td data-value="{value}" class="{kind}"{title}>'
        f'<a tabindex="-1" href="#g{row.group.number}">{escape(text + mark)}</a>{small}</td>'
    )


def _group(group: Group) -> str:
    heads = ["Run", "Seed", "Tasks"]
    heads += [f"{METRICS[m].label} ({s[0].upper()}I)" for s in SCENARIOS for m in _PER_RUN]
    heads += ["Retention", "Time", "Environment", "Weights", "Splits"]
    lines = "".join(f"<tr>{''.join(_run(run))}</tr>" for run in group.runs)
    recipe = group.runs[0].recipe
    shown = (
        f"<details><summary>Recipe (of seed {group.runs[0].seed})</summary>"
        f"<pre>{escape(yaml.safe_dump(dict(recipe), sort_keys=False))}</pre></details>"
        if recipe
        else '<p class="soft">config.yaml was not copied along.</p>'
    )
    count = len(group.finished)
    state = f"{count} of {len(group.runs)} finished" if count < len(group.runs) else f"{count}"
    return (
        f'<details class="runs" id="g{group.number}"><summary><strong>{escape(group.label)}'
        f"</strong>, runs: {state}</summary>"
        f'<div class="wide" tabindex="0" role="group" aria-label="Runs of {escape(group.label)}">'
        f"<table><thead><tr>{''.join(_heads(heads))}</tr></thead><tbody>{lines}</tbody></table>"
        f"</div>{shown}</details>"
    )


_PER_RUN = ("overall_performance", "backward_transfer", "forgetting", "learning_accuracy")


def _heads(texts: Iterable[str]) -> Iterable[str]:
    return (f'<th scope="col">{escape(text)}</th>' for text in texts)


def _run(run: Run) -> Iterable[str]:
    about = run.record.run
    yield f'<th scope="row" title="{escape(str(run.folder))}">{escape(run.folder.name)}</th>'
    yield f"<td>{run.seed}</td>"
    yield f"<td>{len(run.record.tasks)}/{len(about['tasks'])}</td>"
    for scenario in SCENARIOS:
        for metric in _PER_RUN:
            value = run.score(metric, scenario)
            yield f"<td>{escape(show(value, METRICS[metric].unit))}</td>"
    for metric in ("retention", "seconds"):
        value = run.score(metric, "task_incremental")
        yield f"<td>{escape(show(value, METRICS[metric].unit))}</td>"
    yield f"<td><code>{escape(run.environment_hash)}</code></td>"
    weights = about.get("weights") or {}
    source, digest = str(weights.get("source", "?")), str(weights.get("sha256", "?"))
    yield f'<td title="{escape(digest)}">{escape(source)} <code>{escape(digest[:12])}</code></td>'
    splits = str(about.get("split_manifest_sha256", "?"))
    yield f'<td title="{escape(splits)}"><code>{escape(splits[:12])}</code></td>'


def _notes() -> str:
    terms = "".join(
        f"<dt><strong>{escape(m.label)}</strong></dt><dd>{escape(m.about)}</dd>"
        for m in METRICS.values()
    )
    return (
        "<p>A line is a method; its seeds are all runs that differ in nothing else. Behind the "
        "mean stands the standard deviation between seeds; below it, in brackets, the 95 % "
        "bootstrap interval of the mean: whole runs are drawn anew, stratified by stream (Agarwal "
        "et al., 2021). With fewer than five seeds these intervals are too narrow.</p>"
        "<p>Differences (Δ) pair runs of the same seed; their brackets are 95 % t intervals, which "
        "hold for few seeds too. ≈ marks what is within noise: the interval contains 0. Nothing is "
        "corrected for comparing many methods. Every number leads to its runs.</p>"
        f"<dl>{terms}</dl>"
    )
