"""The files of a finished run: weights, numbers, tables and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import timm
from safetensors import safe_open
from safetensors.torch import save

from clbench.errors import reason
from clbench.files.disk import to_json, write_atomic
from clbench.methods import METHODS
from clbench.methods.base import Method
from clbench.recipe.merging import merge
from clbench.record.record import SCENARIOS, Record
from clbench.report.figures import draw_figure
from clbench.runner.products import CURVES, LOADER, MATRIX, PICTURES, SUMMARY, WEIGHTS
from clbench.text.texts import cell
from clbench.text.yamltext import read_text
from clbench.weights import State

T = TypeVar("T")


def write(record: Record) -> list[str]:
    """Write ``summary.json``, the CSV tables and the PNGs into the run folder.

    What cannot be made costs a line on the screen, and nothing else.

    Args:
        record: of a finished run.

    Returns:
        Names of the files that could not be made.
    """

    def picture(name: str) -> bytes:
        figure, buffer = draw_figure(record, name), io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()

    makers: dict[str, Callable[[], str | bytes]] = {
        SUMMARY: lambda: to_json(record.summary(), indent=1),
        MATRIX: lambda: _matrices(record),
        CURVES: lambda: _curves(record),
        **{name: partial(picture, name.removesuffix(".png")) for name in PICTURES},
    }
    return [name for name, make in makers.items() if not _write(record, name, make)]


def attempt(what: str, make: Callable[[], T]) -> T | None:
    """What ``make`` returns; a failure costs a line, which names what could not be made."""
    try:
        return make()
    except Exception as error:
        print(f"{what} could not be made: {reason(error)[:300]}", flush=True)
        return None


def _write(record: Record, name: str, make: Callable[[], str | bytes]) -> bool:
    """Write one file; whether it could be made. What the disk refuses is for the caller."""
    content = attempt(str(record.folder / name), make)
    if content is None:
        return False
    write_atomic(record.folder / name, content)
    return True


def export(record: Record, state: State) -> None:
    """Write the final weights, ``model.safetensors``, and ``load_model.py``, which loads them.

    Args:
        record: of the run.
        state: the weights that were evaluated last, each a tensor of its own.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    names = json.dumps(record.run.class_names)
    write_atomic(record.folder / WEIGHTS, save(whole, {"class_names": names}))
    write_loader(record)


def write_loader(record: Record) -> None:
    """Write ``load_model.py`` for the weights that lie beside the record.

    Whatever a recipe holds gets into it as a literal: nothing of it can become code.
    """
    backbone, options = record.run.backbone, dict(record.run.options)
    options["num_classes"] = len(record.run.class_names)
    with safe_open(record.folder / WEIGHTS, "pt") as weights:
        if any("pos_embed" in name for name in weights.keys()):  # noqa: SIM118
            options["img_size"] = record.run.size
    if more := beyond_timm(record):
        call = f"rebuilt(Path(__file__).parent, {str(backbone)!a}, OPTIONS, **MORE)"
        write_atomic(
            record.folder / LOADER,
            '"""Load the final network of a run of clbench, which timm alone cannot make."""\n\n'
            "from pathlib import Path\n\nfrom clbench.runner.exported import rebuilt\n\n"
            f"NAME = {str(record.run.title)!a}\n"
            f"OPTIONS = {options!a}\n"
            f"MORE = {more!a}  # plugins: where they lie\n"
            f"model = {call}\n",
        )
        return
    own = backbone in ("tiny_cnn", "tiny_vit")
    register = "import clbench.models  # registers the tiny backbones\n" if own else ""
    write_atomic(
        record.folder / LOADER,
        '"""Load the final weights of a run of clbench into timm."""\n\n'
        "from pathlib import Path\n\n"
        f"import timm\nfrom safetensors.torch import load_file\n{register}\n"
        f"NAME = {str(record.run.title)!a}\n"
        f"OPTIONS = {options!a}\n"
        f"model = timm.create_model({str(backbone)!a}, **OPTIONS)\n"
        'model.load_state_dict(load_file(Path(__file__).with_name("model.safetensors")))\n'
        "model.eval()\n",
    )


def beyond_timm(record: Record) -> dict[str, Any]:
    """What makes a run's network where timm alone cannot: methods and plugins; empty if it can."""
    values = read_text(record.run.recipe, str(record.folder)) if record.run.recipe else {}
    methods = {
        name: dict(settings or {})
        for name, settings in (values.get("methods") or {}).items()
        if name in METHODS and any(_has(METHODS[name], hook) for hook in ("adapt", "classifier"))
    }
    kinds: list[Any] = [METHODS[name] for name in methods]
    if timm.is_model(record.run.backbone):
        kinds.append(timm.model_entrypoint(record.run.backbone))
    foreign = any(kind.__module__.split(".")[0] not in ("timm", "clbench") for kind in kinds)
    if not methods and not foreign:
        return {}
    plugins = list(map(str, values.get("plugins") or ())) if foreign else []
    return {
        "methods": methods,
        "tasks": list(_stages(record)),
        "per_task": _per_task(values, methods),
        "plugins": plugins,
        "stages": record.run.stages,
    }


def _stages(record: Record) -> Iterator[tuple[int, str, list[int] | None]]:
    """Index, name and classes of what was learned; tasks that a method arranged anew have all."""
    ranges = dict(zip(record.run.tasks, record.run.classes or (), strict=False))
    whole = [0, len(record.run.class_names)] if ranges else None
    for event in record.tasks:
        yield event.task, event.name, ranges.get(event.name, whole)


def _per_task(values: Any, methods: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By task, whole settings of the methods that have others in it."""
    found: dict[str, dict[str, Any]] = {}
    for task, changes in (values.get("per_task") or {}).items():
        own = changes.get("methods") or {}
        found[task] = {name: merge(methods[name], own[name]) for name in methods if own.get(name)}
    return found


def _has(kind: type[Method], hook: str) -> bool:
    return getattr(kind, hook) is not getattr(Method, hook)


def _matrices(record: Record) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = record.run.tasks
    writer.writerow(["scenario", "after_task", *map(cell, names)])
    for scenario in SCENARIOS:
        for row, name in zip(record.accuracy_matrix(scenario), names, strict=True):
            writer.writerow([scenario, cell(name), *("" if np.isnan(x) else x for x in row)])
    return buffer.getvalue()


def _curves(record: Record) -> str:
    buffer = io.StringIO()
    rows = list(record.curves())
    columns = dict.fromkeys(("step", "task", *SCENARIOS, *(key for row in rows for key in row)))
    writer = csv.DictWriter(buffer, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
