"""The leaderboards as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from clbench.record import SCENARIOS
from clbench.report.compare import Comparison, Row
from clbench.report.metrics import METRICS, SCENARIO_TITLES, show

#: Columns of the tables for papers: metric, and the baseline it is compared with.
COLUMNS: tuple[tuple[str, str | None], ...] = (
    ("overall_performance", None),
    ("overall_performance", "sequential"),
    ("overall_performance", "multitask"),
    ("backward_transfer", None),
    ("forgetting", None),
    ("learning_accuracy", None),
    ("retention", None),
    ("average", None),
    ("stored_bytes", None),
    ("weight_copies", None),
    ("extra_passes_per_step", None),
    ("seconds", None),
)
NOTE = (
    "Accuracies in %, mean ± standard deviation over seeds. Best in bold; ≈: within noise of the "
    "best (95 % t interval of the difference of equal seeds contains 0; the multitask bound does "
    "not compete). Δ: paired difference in points."
)


def rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """One flat row for each section, scenario and method; accuracies are fractions in 0…1."""
    for section in comparison.sections:
        for scenario in SCENARIOS:
            for row in section.leaderboard(scenario):
                flat: dict[str, Any] = {
                    "stream": section.title,
                    "scenario": scenario,
                    "method": row.group.label,
                    "seeds": len(row.group.finished),
                }
                for metric in METRICS:
                    found = row.scores[metric]
                    flat[metric] = found.mean if found else None
                    for part in ("std", "low", "high"):
                        flat[f"{metric}_{part}"] = getattr(found, part) if found else None
                    if METRICS[metric].contest:
                        flat[f"{metric}_mark"] = row.marks.get(metric, "")
                for baseline in ("sequential", "multitask"):
                    for metric in METRICS:
                        if METRICS[metric].unit not in ("accuracy", "change"):
                            continue
                        gap = row.versus[baseline].get(metric)
                        for part in ("mean", "low", "high", "paired"):
                            name = f"{metric}_minus_{baseline}_{part}"
                            flat[name] = getattr(gap, part) if gap else None
                flat["runs"] = " ".join(run.folder.name for run in row.group.finished)
                yield flat


def leaderboard_csv(comparison: Comparison) -> str:
    """All statistics of all methods."""
    return _csv(rows(comparison))


def runs_csv(comparison: Comparison) -> str:
    """All scores of every run, unfinished ones included."""

    def lines() -> Iterator[dict[str, Any]]:
        for section in comparison.sections:
            for group in section.groups:
                for run in group.runs:
                    about = run.record.run
                    line: dict[str, Any] = {
                        "run": run.folder.name,
                        "stream": section.title,
                        "method": group.label,
                        "seed": run.seed,
                        "finished": run.finished,
                        "environment": run.environment_hash,
                        "weights_sha256": (about.get("weights") or {}).get("sha256"),
                        "split_manifest_sha256": about.get("split_manifest_sha256"),
                    }
                    for scenario in SCENARIOS:
                        for metric in METRICS:
                            line[f"{scenario}/{metric}"] = run.score(metric, scenario)
                    yield line

    return _csv(lines())


def markdown(comparison: Comparison) -> str:
    """The leaderboards as Markdown tables."""
    parts = [NOTE]
    for title, heads, body in _boards(comparison):
        cells = [[_escape_markdown(c) for c in line] for line in [heads, *body]]
        parts.append(f"### {_escape_markdown(title)}")
        rule = ["---", *["---:"] * (len(heads) - 1)]
        lines = [cells[0], rule, *cells[1:]]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison) -> str:
    """The leaderboards as LaTeX tables; they need the package booktabs."""
    parts = ["% \\usepackage{booktabs}\n% " + NOTE]
    for title, heads, body in _boards(comparison):
        lines = [" & ".join(map(_escape_latex, line)) + r" \\" for line in body]
        parts.append(
            "\\begin{table}\n\\centering\n"
            f"\\caption{{{_escape_latex(title)}}}\n"
            f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}\n\\toprule\n"
            + " & ".join(map(_escape_latex, heads))
            + " \\\\\n\\midrule\n"
            + "\n".join(lines)
            + "\n\\bottomrule\n\\end{tabular}\n\\end{table}"
        )
    return "\n\n".join(parts) + "\n"


def _boards(comparison: Comparison) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, heads and cells of each leaderboard; bold is marked by asterisks."""
    for section in comparison.sections:
        for scenario in SCENARIOS:
            board = section.leaderboard(scenario)
            shown = [c for c in COLUMNS if any(_cell(row, *c) != "–" for row in board)]
            heads = ["Method", "Seeds", *(head(*column) for column in shown)]
            body = [
                [row.group.label, str(len(row.group.finished)), *(_cell(row, *c) for c in shown)]
                for row in board
            ]
            yield f"{section.title}, {SCENARIO_TITLES[scenario]}", heads, body


def head(metric: str, baseline: str | None) -> str:
    """The head of a column."""
    label = METRICS[metric].label
    return f"Δ{label} {baseline}" if baseline else label


def _cell(row: Row, metric: str, baseline: str | None) -> str:
    unit = METRICS[metric].unit
    if baseline:
        gap = row.versus[baseline].get(metric)
        return (
            "–" if gap is None else show(gap.mean, unit, True) + (" ≈" if gap.within_noise else "")
        )
    found = row.scores[metric]
    if found is None:
        return "–"
    text = show(found.mean, unit)
    if unit in ("accuracy", "change") and found.std is not None:
        text += f" ± {show(found.std, 'accuracy')}"
    return {"best": f"**{text}**", "tie": f"{text} ≈"}.get(row.marks.get(metric, ""), text)


def _csv(lines: Iterable[dict[str, Any]]) -> str:
    found = list(lines)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(found[0]) if found else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return buffer.getvalue()


def _escape_markdown(text: str) -> str:
    bold = text.startswith("**") and text.endswith("**") and len(text) > 4
    inner = text[2:-2] if bold else text
    for sign in "\\`*_{}[]<>|#":
        inner = inner.replace(sign, f"\\{sign}")
    return f"**{inner}**" if bold else inner


_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "Δ": r"$\Delta$",
    "→": r"$\to$",
    "–": "--",
    "−": "$-$",
}


def _escape_latex(text: str) -> str:
    bold = text.startswith("**") and text.endswith("**") and len(text) > 4
    inner = "".join(_LATEX.get(sign, sign) for sign in (text[2:-2] if bold else text))
    return rf"\textbf{{{inner}}}" if bold else inner
