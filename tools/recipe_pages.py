"""The reference of recipes and suites, from their models: docs/recipe.md.

python tools/recipe_pages.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from page_parts import DOCS, inline, made, table
from pydantic import BaseModel

from clbench.launch.slurm import Settings
from clbench.methods import METHODS
from clbench.metrics import METRICS
from clbench.metrics.retained import MEASURES
from clbench.recipe.recipe import Recipe
from clbench.recipe.retention import RetentionSet
from clbench.recipe.trainer_arguments import OWNED
from clbench.record.loggers import LOGGERS
from clbench.streams import STREAMS, StreamConfig
from clbench.suite.tuning import Range, Tuning

PAGE = DOCS / "recipe.md"
INTRO = """\
# Recipe reference

Every field of a recipe, with its type, default and bounds, from the classes that read it. A recipe is
YAML, a mapping from Python, or words of the command line, where sections are dotted:
`--optimizer.lr 0.01`. `python train.py --help` prints the same list, and `--print_config` a resolved
recipe with these descriptions as comments.

Unknown keys are refused, with the nearest name there is. A value must be of its type: a number is no text,
and `true` is neither. `~` at the start of a path is your home. How configs go on from one another
(`extends`) and how words of the command line are read is in [Use](use.md#recipes)."""
SUITE = """\
## Suites

A suite is YAML with the keys of [its page](compare.md): `base`, `methods`, `overrides`, `grid`, `variants`,
`streams`, `backbones`, `orders`, `seeds`, `tune`, `plugins` and `name`. Only `tune` is a section of fields:"""


def page() -> str:
    """The reference, as Markdown."""
    top = [(name, info) for name, info in Recipe.model_fields.items()
           if _inner(info.annotation) is None]  # fmt: skip
    parts = [
        made("recipe_pages", "clbench/recipe/recipe.py"),
        INTRO,
        f"Sections: {_sections()}.",
        "## Top level",
        table(top),
        *_stream(),
        *(part for name, info in Recipe.model_fields.items() for part in _section(name, info)),
        *_named(),
        SUITE,
        "### `tune`",
        table(Tuning.model_fields.items()),
        "A range that is searched, in the place of a list of values:",
        table(Range.model_fields.items()),
        "## `--slurm.…`",
        "What `clbench compare --launcher slurm` asks of a cluster for each run; [its page](slurm.md).",
        table(Settings.model_fields.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The section that a field is; None where it is none."""
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_section else None


def _sections() -> str:
    names = [name for name, info in Recipe.model_fields.items() if _inner(info.annotation)]
    more = ["methods", "metrics", "loggers", "trainer"]
    return ", ".join(f"[`{name}`](#{name})" for name in [*names, *more])


def _stream() -> Iterator[str]:
    yield "## `stream`"
    yield "What is learned, in which order. Each of the " + (
        f"[{len(STREAMS)} streams](streams.md) has a page with its own fields; all have these:"
    )
    yield table(StreamConfig.model_fields.items())


def _section(key: str, info: Any) -> Iterator[str]:
    kind = _inner(info.annotation)
    if kind is None or key == "stream":
        return
    yield f"{'#' * (2 + key.count('.'))} `{key}`"
    yield inline(" ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()))
    fields = [row for row in kind.model_fields.items() if _inner(row[1].annotation) is None]
    if fields:
        yield table(fields)
    for name, inner in kind.model_fields.items():
        yield from _section(f"{key}.{name}", inner)
    if key == "retention":
        yield "### `retention.sets.NAME`"
        yield f"{inspect.getdoc(RetentionSet)} [More](retention.md)."
        yield table(RetentionSet.model_fields.items())
        yield "Measures: " + ", ".join(f"[`{name}`](measures/{name}.md)" for name in MEASURES) + "."


def _named() -> Iterator[str]:
    """What a recipe names, with settings of its own."""
    yield "## `methods`"
    yield ("An ordered mapping of names to settings, `{sfa: {p: 0.9}, replay: {}}`; each of the "
           f"[{len(METHODS)} methods](methods.md) has a page with its own fields.")  # fmt: skip
    yield "## `metrics`"
    yield "Names, of " + ", ".join(f"[`{name}`](scores/{name}.md)" for name in METRICS) + "."
    yield "## `loggers`"
    yield "Names, or names with settings: `[csv, {wandb: {project: mine}}]`."
    for name, kind in LOGGERS.items():
        yield f"### `loggers.{name}`"
        yield f"{kind.summary}."
        if kind.model_fields:
            yield table(kind.model_fields.items())
    yield "## `trainer`"
    yield ("Arguments of `lightning.Trainer`: `devices`, `num_nodes`, `strategy`, `accelerator`, "
           "`precision`, `accumulate_grad_batches`, `gradient_clip_val` and what else it takes. "
           "These are clbench's own, or of no use here, and refused:")  # fmt: skip
    rows = [f"| `{name}` | {why} |" for name, why in OWNED.items()]
    yield "\n".join(["| argument | instead |", "| --- | --- |", *rows])


def pages() -> dict[str, str]:
    """The page, by name."""
    return {PAGE.stem: page()}


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
