"""The runs behind the numbers, folded away."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import yaml

from clbench.report.gather import Run
from clbench.report.group import Group
from clbench.report.html_table import wide
from clbench.report.metrics import METRICS, show


def runs_of(group: Group) -> str:
    """The runs of a method, and the recipe of the first."""
    heads = ["Run", "Seed", "Tasks"]
    titles = group.runs[0].record.scenarios.values()
    heads += [f"{METRICS[m].label} ({title[0].upper()}I)" for title in titles for m in _PER_RUN]
    heads += ["Retention", "Time", "Environment", "Weights", "Splits"]
    lines = "".join(f"<tr>{''.join(_run(run))}</tr>" for run in group.runs)
    recipe = group.runs[0].recipe
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # five times as fast
    shown = (
        f"<details><summary>Recipe (of seed {group.runs[0].seed})</summary>"
        f"<pre>{escape(yaml.dump(dict(recipe), None, dumper, sort_keys=False))}</pre></details>"
        if recipe
        else '<p class="soft">config.yaml was not copied along.</p>'
    )
    count = len(group.finished)
    state = f"{count} of {len(group.runs)} finished" if count < len(group.runs) else f"{count}"
    return (
        f'<details class="runs" id="g{group.number}"><summary><strong>{escape(group.label)}'
        f"</strong>, runs: {state}</summary>"
        + wide(
            f"<table><thead><tr>{''.join(_heads(heads))}</tr></thead><tbody>{lines}</tbody></table>",
            f"Runs of {group.label}",
        )
        + f"{shown}</details>"
    )


_PER_RUN = (
    "overall_performance",
    "average_incremental_accuracy",
    "backward_transfer",
    "forgetting",
    "learning_accuracy",
)


def _heads(texts: Iterable[str]) -> Iterable[str]:
    return (f'<th scope="col">{escape(text)}</th>' for text in texts)


def _run(run: Run) -> Iterable[str]:
    about = run.record.run
    yield f'<th scope="row" title="{escape(str(run.folder))}">{escape(run.folder.name)}</th>'
    yield f"<td>{run.seed}</td>"
    yield f"<td>{len(run.record.tasks)}/{len(about['tasks'])}</td>"
    for scenario in run.record.scenarios:
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
