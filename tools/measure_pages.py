"""A page for each measure of what is kept, from its class: docs/measures/NAME.md, listed in
docs/retention.md.

    python tools/measure_pages.py
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from page_parts import (
    DOCS,
    ROOT,
    between,
    google,
    inline,
    made,
    markdown,
    papers,
    sentence,
    table,
    write,
)

from clbench.metrics.retained import MEASURES
from clbench.metrics.retained.base import Classifier, Measure
from clbench.text.yamltext import dump

INDEX = DOCS / "retention.md"
#: What must be given.
REQUIRED = {"zero_shot": {"embeddings": "imagenet.npz"}}


def page(name: str) -> str:
    """The page of a measure, as Markdown."""
    kind = MEASURES[name]
    module = sys.modules[kind.__module__]
    source = Path(inspect.getfile(kind)).relative_to(ROOT).as_posix()
    rows = list(kind.model_fields.items())
    parts = [
        f"{made('measure_pages', source)}\n\n# `{name}`\n\n{sentence(kind.summary)}",
        "\n".join(f"- {line}" for line in _facts(kind)),
        "## In a recipe",
        f"```yaml\n{_example(name, kind)}\n```",
        "## What it is",
        markdown(inspect.getdoc(kind) or ""),
        "\n".join(f"- {paper}" for paper in papers(inspect.getdoc(module) or "")),
        *_functions(kind),
        "## Settings",
        table(rows) if rows else "It has none.",
        f"Its file is [{source}](../../{source}).",
        "[Retention](../retention.md) has what all measures have in common.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def index(text: str) -> str:
    """The text of docs/retention.md with the list of pages in its place."""
    links = " ·\n".join(f"[`{name}`](measures/{name}.md)" for name in MEASURES)
    return between(text, "measure_pages", links)


def _facts(kind: type[Measure]) -> Iterator[str]:
    yield "Range: from 0 to 1; more is better."
    if kind.labels:
        yield "Learns the labels from reference images, anew each time, and asks about the others."
    if kind.looks_back:
        yield "Compares with the features of the pretrained network."
    if kind.reads:
        yield "Compares with texts: for networks of CLIP alone."
    if kind is MEASURES["head"]:
        yield "Needs the head that the network was pretrained with."
    else:
        yield "Needs no head: the features say it."
    where = "In `retention.measures`, and in `measures` of each of `retention.sets`"
    more = "; in `representation.measures` of earlier tasks, too" * issubclass(kind, Classifier)
    yield f"{where}{more}."
    yield ("In `summary.json`: `before`, `after_task`, `change` and `kept` under "
           "`retention.measures`.")  # fmt: skip


def _example(name: str, kind: type[Measure]) -> str:
    settings = REQUIRED.get(name) or {
        field: info.default for field, info in kind.model_fields.items()
    }
    text = f"retention: {dump({'measures': [{name: settings}]}, flow=True).strip()}"
    if issubclass(kind, Classifier):
        text += f"\nrepresentation: {{measures: [{name}]}}   # what it tells of earlier tasks"
    return text


def _functions(kind: type[Measure]) -> Iterator[str]:
    """What can be used without the rest."""
    module = sys.modules[kind.__module__]
    own = [(name, thing) for name, thing in vars(module).items()
           if inspect.isfunction(thing) and thing.__module__ == module.__name__
           and not name.startswith("_")]  # fmt: skip
    if own:
        yield "In its file, usable on their own:"
    for name, thing in own:
        arguments = inline(str(inspect.signature(thing))).replace("'", "")
        yield f"```python\n{name}{arguments}\n```"
        yield google(inspect.getdoc(thing) or "")


def pages() -> dict[str, str]:
    """Every page, by name."""
    return {name: page(name) for name in MEASURES}


if __name__ == "__main__":
    write(DOCS / "measures", pages())
    INDEX.write_text(index(INDEX.read_text("utf-8")), "utf-8")
