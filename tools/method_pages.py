"""A page for each method, from its class: docs/methods/NAME.md, and their index in docs/methods.md.

    python tools/method_pages.py

What a page says of a method is what its file says: what it does, its settings, what it asks for and
goes with. Numbers of papers are those of ``clbench/report/reported.yaml``, numbers of ours those of
the tables in docs/results whose records are kept.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from page_parts import (
    DOCS,
    ROOT,
    between,
    cell,
    default,
    inline,
    made,
    markdown,
    papers,
    sentence,
    write,
)

from clbench.methods import METHODS
from clbench.methods.base import Method, overriding
from clbench.methods.posthoc import hands_on, needs_training
from clbench.record.values import Scenario
from clbench.report.reported import Ours, measured_alone, ours, reported
from clbench.text.yamltext import dump

INDEX = DOCS / "methods.md"
#: Hooks that every method has something in, or that say nothing of what it does to training.
PLAIN = ("activity", "state_dict", "load_state_dict", "scope", "remarks", "histograms")


def page(name: str) -> str:
    """The page of a method, as Markdown."""
    kind = METHODS[name]
    source = Path(inspect.getfile(kind)).relative_to(ROOT)
    parts = [
        f"{made('method_pages', source.as_posix())}\n\n# `{name}`\n\n{sentence(kind.summary)}",
        "## What it does",
        markdown(inspect.getdoc(kind) or ""),
        *_module(kind, source),
        "## Settings",
        _settings(kind),
        "## What it asks for, and what it goes with",
        "\n".join(f"- {line}" for line in _asks(name, kind)),
        *_numbers(name),
        "[All methods](../methods.md)",
    ]
    return "\n\n".join(parts) + "\n"


def index(text: str) -> str:
    """The overview's text with the list of all pages in its place."""
    links = " ·\n".join(f"[`{name}`](methods/{name}.md)" for name in METHODS)
    return between(text, "method_pages", links)


def _module(kind: type[Method], source: Path) -> Iterator[str]:
    """The papers, and what can be used without the rest."""
    module = sys.modules[kind.__module__]
    listed = papers(inspect.getdoc(module) or "")
    if listed:
        yield "\n".join(f"- {paper}" for paper in listed)
    own = [
        (name, thing)
        for name, thing in vars(module).items()
        if inspect.isfunction(thing)
        and thing.__module__ == module.__name__
        and not name.startswith("_")
    ]
    link = f"[{source.as_posix()}](../../{source.as_posix()})"
    yield f"Its file is {link}." + (" In it, usable on their own:" if own else "")
    if own:
        first = {name: (inspect.getdoc(thing) or "").split("\n\n")[0] for name, thing in own}
        lines = (f"- `{name}`: {inline(' '.join(text.split()))}" for name, text in first.items())
        yield "\n".join(lines)


def _settings(kind: type[Method]) -> str:
    if not kind.model_fields:
        return "It has none."
    rows = [
        f"| `{name}` | {default(info)} | {cell(info.description or '')} |"
        for name, info in kind.model_fields.items()
    ]
    return "\n".join(["| field | default | what it sets |", "| --- | --- | --- |", *rows])


def _at_defaults(kind: type[Method]) -> Method:
    """The method as it is, with any text for what must be given."""
    return kind(**{name: "…" for name, info in kind.model_fields.items() if info.is_required()})


def _asks(name: str, kind: type[Method]) -> Iterator[str]:
    """What a class says of itself, a line each."""
    method = _at_defaults(kind)
    needs = method.needs
    told = {
        "past_data": "images of earlier tasks",
        "past_tasks": "an earlier task, without which it does nothing",
        "task_boundaries": "word of a task's end",
        "reference_data": "images of another source",
    }
    asked = [text for key, text in told.items() if getattr(needs, key)]
    if needs.copies:
        asked.append(f"room for {needs.copies} more cop{'ies' if needs.copies > 1 else 'y'} of "
                     "the weights")  # fmt: skip
    if needs.passes:
        asked.append(f"{needs.passes:g} more pass{'es' * (needs.passes > 1)} a step")
    yield "Asks for " + (", ".join(asked) if asked else "nothing") + "."
    if kind.neutral:
        fields = ", ".join(
            f"`{key}: {dump(value, flow=True).strip()}`" for key, value in kind.neutral.items()
        )
        yield f"Is plain fine-tuning, bit for bit, at {fields}."
    hooks = [
        hook
        for hook, thing in vars(Method).items()
        if inspect.isfunction(thing)
        and not hook.startswith(("_", "take_"))
        and hook not in PLAIN
        and overriding([method], hook)
    ]
    yield "Acts by " + (", ".join(f"`{hook}`" for hook in hooks) if hooks else "no hook") + "."
    if reason := needs_training(name, method):
        yield f"A finished run cannot be measured with it: {reason}."
    elif hooks:
        more = " as a merge of one sequence's weights" * hands_on(method)
        yield f"Is post hoc: `clbench sweep RUN --methods FILE` lays it on a finished run{more}."
    if kind.swept:
        fields = ", ".join(f"`--{field}`" for field in kind.swept)
        yield f"Finished runs can be swept over {fields} without training."
    if kind.optimizers:
        yield f"Works with `optimizer.name: {'` or `'.join(kind.optimizers)}` alone."
    if method.networks:
        names = " or ".join(f"`{network.__name__}`" for network in method.networks)
        yield f"Works on {names} of timm alone."
    if kind.alone:
        yield f"Stands alone: it {kind.alone}."
    against: dict[str, list[str]] = {}
    for other, why in kind.clashes.items():
        against.setdefault(why, []).append(f"`{other}`")
    for why, others in against.items():
        yield f"Does not go with {', '.join(others)}: {why}."
    saying = [f"[`{other}`]({other}.md)" for other, theirs in METHODS.items()
              if name in theirs.clashes and other not in (name, *kind.clashes)]  # fmt: skip
    if saying:
        yield f"Nor with {', '.join(saying)}: their pages say why."
    if overriding([method], "scope") or kind.scope_means:
        said = inspect.getdoc(kind.scope) if overriding([method], "scope") else ""
        scope = inline(" ".join((said or "").split("\n\n")[0].split())) or "measured as it acts"
        means = f" ({kind.scope_means})" if kind.scope_means else ""
        yield f"How much it could do: {scope.rstrip('.')}{means}."


def _numbers(name: str) -> Iterator[str]:
    rows = [row for row in reported() if row.method == name]
    yield "## Numbers"
    if rows:
        lines = ["| stream | weights | score | reported | others | ours | command |"]
        lines.append("| --- | --- | --- | --- | --- | --- | --- |")
        for row in rows:
            others = ", ".join(f"{value:g} ({who})" for who, value in row.others.items()) or "–"
            found = ours(row)
            own = _of(found) if found else "not run"
            command = f"`{row.command}`" if row.command else "–"
            cells = (row.stream, row.weights, row.what, f"{row.reported:g}", others, own, command)
            lines.append(f"| {' | '.join(map(cell, cells))} |")
        yield "\n".join(lines)
        sources = dict.fromkeys(row.source for row in rows)
        yield "Reported by: " + "; ".join(sources) + "."
    else:
        yield ("No number of a paper was looked up for it on a stream and a network that are here.")
    found = list(_here(name))
    if found:
        yield "Measured here, alone, with its records:"
        lines = [
            "| page | stream | row | seeds | task-incremental | class-incremental | retention |"
        ]
        lines.append("| --- | --- | --- | --- | --- | --- | --- |")
        yield "\n".join([*lines, *found])


def _here(name: str) -> Iterator[str]:
    """Rows of the tables in docs/results whose runs had this method and no other."""
    for first, by in measured_alone(name):
        page = f"[{first.page}](../results/{first.page}/README.md)"
        cells = [page, first.stream, first.row, str(first.seeds)]
        cells += [_of(by[what], brief=True) if what in by else "–"
                  for what in (*get_args(Scenario), "retention")]  # fmt: skip
        yield f"| {' | '.join(map(cell, cells))} |"


def _of(found: Ours, brief: bool = False) -> str:
    text = f"{100 * found.value:.1f}"
    if found.low is not None and found.high is not None:
        text += f" [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    if brief:
        return text
    where = f"[{found.page}](../results/{found.page}/README.md)"
    return f"{text}, {found.seeds} seeds, {where}"


def pages() -> dict[str, str]:
    """Every page, by name."""
    return {name: page(name) for name in METHODS}


if __name__ == "__main__":
    write(DOCS / "methods", pages())
    INDEX.write_text(index(INDEX.read_text("utf-8")), "utf-8")
