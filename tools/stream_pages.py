"""A page for each stream, from its class and its data sets: docs/streams/NAME.md, and docs/streams.md.

    python tools/stream_pages.py

Tasks are those that the stream builds at its defaults, on stand-ins of its data sets: no image is
read, and what lies on this machine changes nothing.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from page_parts import DOCS, ROOT, cell, made, markdown, papers, sentence, table, write

from clbench.data.datasets import DATASETS, SOURCES
from clbench.data.datasets.base import DataSet, Labelled
from clbench.data.datasets.core50 import BATCHES
from clbench.data.datasets.sizes import SIZES
from clbench.data.images import Images
from clbench.streams import STREAMS, Shelf, Storage, Stream, StreamConfig, data_sets, describe
from clbench.streams.core50 import Core50Config
from clbench.streams.divide import DividedConfig
from clbench.streams.outline import Pixels
from clbench.text.yamltext import dump, read_text

INDEX = DOCS / "streams.md"
DATA = ROOT / "data" / "README.md"
#: What must be given of the streams that have no data set of their own, and where it is told.
OWN = {
    "image_folder": {"train": "photos/train", "test": "photos/test", "tasks": 5},
    "shards": {"train": "photos/train-{0000..0146}.tar", "test": "photos/test-*.tar", "tasks": 10},
    "avalanche": {"benchmark": "SplitMNIST", "arguments": {"n_experiences": 5, "seed": 0}},
    "torchvision": {"dataset": "GTSRB", "tasks": [8, 5, 5, 5, 5, 5, 5, 5]},
    "huggingface": {"dataset": "uoft-cs/cifar100", "label": "fine_label", "tasks": 20},
}
TOLD = {"image_folder": "your-own-images", "shards": "shards"}
#: Parts of the index, by what a stream is a kind of.
KINDS = {
    "SplitConfig": "One data set, its classes divided into tasks",
    "TransferConfig": "Several data sets, one a task",
    **dict.fromkeys(
        ("DomainsConfig", "Core50Config", "PermutedConfig", "RotatedConfig"),
        "The same classes in several domains, one head",
    ),
}
#: Images of each class in the place of a data set, of which some are held out.
FEW = 2
OTHERS = "Images of your own, and data sets of other libraries"


def page(name: str) -> str:
    """The page of a stream, as Markdown."""
    kind = STREAMS[name]
    source = Path(inspect.getfile(kind)).relative_to(ROOT).as_posix()
    given = {"name": name} | OWN.get(name, {})
    config = kind.model_validate(given)
    rows = [(field, info) for field, info in kind.model_fields.items() if field != "name"]
    usual = {field: getattr(config, field) for field, info in rows if not info.is_required()
             and field not in OWN.get(name, {})}  # fmt: skip
    usual |= {field: getattr(config, field) for field in _of_the_name(name, config)}
    parts = [
        f"{made('stream_pages', source)}\n\n# `{name}`\n\n{sentence(describe(name))}",
        *_facts(name, config),
        "## In a recipe",
        f"```yaml\nstream: {dump(given, flow=True).strip()}\n```",
        *_more(name, config),
        "## What it is",
        markdown(inspect.getdoc(kind) or ""),
        "\n".join(
            f"- {paper}" for paper in papers(inspect.getdoc(sys.modules[kind.__module__]) or "")
        ),
        f"Its file is [{source}](../../{source}).",
        "## Data",
        *_data(name),
        "## Options",
        table(rows, usual),
        "[All streams](../streams.md)",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def index() -> str:
    """The overview of all streams."""
    groups: dict[str, list[str]] = {}
    for name, kind in STREAMS.items():
        groups.setdefault(KINDS.get(kind.__name__, OTHERS), []).append(name)
    parts = [
        f"{made('stream_pages', 'clbench/streams')}\n\n# Streams\n\n{INTRO}",
        *(text for title, names in groups.items() for text in (f"## {title}", _listed(names))),
    ]
    return "\n\n".join(parts) + "\n"


INTRO = """\
A *stream* is what is learned, and in which order: tasks, each with classes and with training,
validation and test images. `stream: {name: split_cifar100}` in a recipe takes one by its name;
`python train.py --list` shows them all, and `clbench data NAME` says which files one needs, where they
belong, and whether they are there. [What belongs where](../data/README.md) has it of every data set.

Each stream has a page, made from its class: its tasks, its data, an example and every option. Streams of
your own are [a file](plugins.md); your own images need [no code](streams/image_folder.md).

Licences are the authors': clbench ships no data but scikit-learn's digits, and keeps no list of licences,
so read the page that a set comes from before you use it."""


def _listed(names: Sequence[str]) -> str:
    lines = ["| stream | what it is | tasks | data sets |", "| --- | --- | --- | --- |"]
    for name in names:
        config = STREAMS[name].model_validate({"name": name} | OWN.get(name, {}))
        sets = ", ".join(f"`{one}`" for one in data_sets(name)) or "–"
        tasks = _count(name, config)
        lines.append(
            f"| [`{name}`](streams/{name}.md) | {cell(describe(name))} | {tasks} | {sets} |"
        )
    return "\n".join(lines)


def _count(name: str, config: StreamConfig) -> str:
    if isinstance(config, Core50Config):
        return ", ".join(map(str, BATCHES.values()))
    return "as you say" if name in OWN else str(len(_usual(name).tasks))


@cache
def _usual(name: str) -> Stream:
    """The stream at its defaults."""
    return _built(STREAMS[name].model_validate({"name": name}))


def _built(config: StreamConfig) -> Stream:
    """A stream on data sets of the right classes and a few black images each."""

    def keep(_: Storage, labelled: Labelled, side: int, *__: Any) -> Images:
        return Pixels(len(labelled.labels), 1, 8, slow=False)

    def load(name: str, *_: Any) -> DataSet:
        size = SIZES[name]
        parts = [
            np.arange(FEW * classes) % classes
            for classes in (size.classes, size.tested or size.classes)
        ]
        train, test = (
            Labelled(np.zeros((len(labels), 8, 8), np.uint8), labels) for labels in parts
        )
        return DataSet(name, train, test, tuple(map(str, range(size.classes))))

    return config.build(Path("data"), Storage(size=8), Shelf(load, keep))


def _facts(name: str, config: StreamConfig) -> Iterator[str]:
    """Tasks and classes at the defaults, in a list."""
    if name in OWN:
        return
    lines = []
    if isinstance(config, Core50Config):
        batches = ", ".join(f"{count} with `scenario: {key}`" for key, count in BATCHES.items())
        lines += [f"Tasks: {batches}.", "Classes: 50 objects."]
    else:
        stream = _usual(name)
        sizes = [len(task.classes) for task in stream.tasks]
        each = _runs(sizes)
        lines.append(f"Tasks: {len(sizes)}, of {each} classes"
                     f"{': ' + ', '.join(task.name for task in stream.tasks) if _named(config) else ''}."
                     )  # fmt: skip
        lines.append(f"Outputs of the head: {len(stream.class_names)}.")
    if getattr(config, "pretrain_classes", None):
        apart = ", ".join(map(str, config.pretrain_classes))  # type: ignore[attr-defined]
        lines.append(f"Set apart for pretraining and retention: classes {apart}.")
    if getattr(config, "leave_out", None):
        lines.append(f"Left out: classes {', '.join(map(str, config.leave_out))}.")  # type: ignore[attr-defined]
    if config.shares_labels:
        lines.append("One head for all tasks, and the task is never told: *domain-incremental*.")
    else:
        lines.append("Each task has outputs of its own: scored *task-* and *class-incremental*.")
    lines.append(f"Version of its definition: {config.version}.")
    yield "\n".join(f"- {line}" for line in lines)


def _named(config: StreamConfig) -> bool:
    return type(config).__name__ in ("TransferConfig", "DomainsConfig", "RotatedConfig")


def _runs(sizes: Sequence[int]) -> str:
    """Sizes of tasks in words: of one length, or in order."""
    if len(set(sizes)) == 1:
        return str(sizes[0])
    if len(set(sizes[1:])) == 1:
        return f"{sizes[0]}, then {sizes[1]}"
    return ", ".join(map(str, sizes))


def _of_the_name(name: str, config: StreamConfig) -> list[str]:
    """Required fields that a row of a table fills in."""
    missing = [field for field, info in type(config).model_fields.items() if info.is_required()]
    return [field for field in missing if field != "name" and field not in OWN.get(name, {})]


def _more(name: str, config: StreamConfig) -> Iterator[str]:
    """Other ways to have it, and the configs that do."""
    if isinstance(config, DividedConfig) and name not in OWN:
        other = {"name": name, "tasks": 2, "order": "legacy-1993", "labels": "shared"}
        _built(type(config).model_validate(other))  # an example that is refused is none
        yield (f"Other tasks, in the class order of the literature, on one head:\n\n"
               f"```yaml\nstream: {dump(other, flow=True).strip()}\n```")  # fmt: skip
    found = [path for path, stream in _configs().items() if stream == name]
    if found:
        yield f"Configs with it: {', '.join(_links(found))}."


def _links(configs: Sequence[str]) -> Iterator[str]:
    """Configs, and in the place of many in one folder the folder."""
    by_folder: dict[str, list[str]] = {}
    for config in configs:
        by_folder.setdefault(config.rpartition("/")[0], []).append(config)
    for folder, inner in by_folder.items():
        if folder and len(inner) > 2:
            yield f"{len(inner)} of [configs/{folder}](../../configs/{folder})"
        else:
            yield from (f"[{one}](../../configs/{one})" for one in inner)


@cache
def _configs() -> dict[str, str | None]:
    """The stream that each config names, by its path in configs/."""
    found = {}
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        stream = (read_text(path.read_text("utf-8"), path.name) or {}).get("stream")
        name = stream.get("name") if isinstance(stream, dict) else None
        found[path.relative_to(ROOT / "configs").as_posix()] = name
    return found


def _data(name: str) -> Iterator[str]:
    if name in OWN:
        where = f"#{TOLD[name]}" if name in TOLD else ""
        yield f"Whatever you name; [what is read, and what is refused](../../data/README.md{where})."
        return
    lines = ["| data set | classes | training | test | of | on disk | fetched by clbench |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    sets = data_sets(name)
    for one in sets:
        size, source = SIZES[one], SOURCES.get(one)
        shape = "photographs" if size.shape is None else " × ".join(map(str, size.shape))
        disk = f"{size.disk / 1e9:g} GB" if size.disk else "–"
        fetched = "not needed" if source is None else "yes" if source.downloads else "no"
        place = f"[`{one}`](../../data/README.md#{anchor(one)})"
        cells = (
            place,
            f"{size.classes:,}",
            f"{size.train:,}",
            f"{size.test:,}",
            shape,
            disk,
            fetched,
        )
        lines.append(f"| {' | '.join(cells)} |")
    yield "\n".join(lines)
    yield "\n".join(line for one in sets for line in _files(one))
    yield f"`clbench data {name}` says whether all of it is there."


def _files(name: str) -> Iterator[str]:
    source = SOURCES.get(name)
    if source is None:
        yield f"- `{name}` comes with scikit-learn."
        return
    page, _, more = source.page.partition(" ")
    where = f"<{page}> {more}".strip() if page.startswith("http") else source.page
    yield f"- {source.title}, from {where}: `data/{source.folder}` must hold {source.contents}."
    if source.besides:
        yield f"- Stream `{source.besides[1]}` needs `data/{source.besides[0]}` besides."


def anchor(dataset: str) -> str:
    """The heading of data/README.md that tells of a data set, as a link has it."""
    for title in re.findall(r"^## (.+)$", DATA.read_text("utf-8"), re.MULTILINE):
        if dataset in title.split(", "):
            return title.lower().replace(",", "").replace(" ", "-")
    return "data-sets"


def pages() -> dict[str, str]:
    """Every page, by name."""
    assert set(SIZES) == set(DATASETS)
    return {name: page(name) for name in STREAMS}


if __name__ == "__main__":
    write(DOCS / "streams", pages())
    INDEX.write_text(index(), "utf-8")
