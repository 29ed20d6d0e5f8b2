"""``clbench reproduce``: a paper's runs, as far as the machine's data allows, and one report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clbench.errors import ClbenchError
from clbench.estimate.estimating import Estimate, Shared, estimate
from clbench.recipe.recipe import Recipe, merge, parse
from clbench.recipe.yamlfile import PLACES, nested, read
from clbench.report.build import build
from clbench.report.compare import Comparison
from clbench.runner.folder import recipe_hash
from clbench.streams.transfer import TransferConfig
from clbench.suite.comparison import compare
from clbench.suite.missing import Missing, lacking
from clbench.text.numbers import duration, size

#: Above this many seconds a person at a terminal is asked first.
LONG = 3600.0


@dataclass(frozen=True)
class Paper:
    """What a paper's folder of configs does not say.

    Attributes:
        sweeps: by config, a field and its values; each makes one more run.
        backbones: ``model`` sections that every config is run with; none: the config's own.
        variants: by name, what is put on top of every config, and on top of that of single ones,
            for one more table; those that the overrides take the ground from are left out.
    """

    sweeps: Mapping[str, tuple[str, Sequence[float]]] = field(default_factory=dict)
    backbones: Sequence[Mapping[str, Any]] = ()
    variants: Mapping[str, Variant] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """Another setting of a paper's configs.

    Attributes:
        values: put on top of every config.
        own: put on top of single configs, after that.
    """

    values: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


ALL_LOGITS = Variant({"train_logits": "all"})
#: Steps: as many epochs as the configs have on CIFAR-100.
FOOD = Variant(
    {
        "stream": {"name": "food101"},
        "augment": {"crop": "resized", "scale": [0.25, 1.0]},
        "eval_every": 50,
        "steps": 135,
    },
    own={"multitask": {"steps": 2700}, "sfa": {"methods": {"sfa": {"p": 0.98}}}},
)

PAPERS = {
    "flow": Paper(
        sweeps={"l2": ("methods.l2.strength", (0.002, 0.02, 0.2, 2.0))},
        backbones=(
            {"backbone": "resnet18", "weights": "resnet18.tv_in1k"},
            {"backbone": "resnet50", "weights": "resnet50.ram_in1k"},
        ),
    ),
    "mofo": Paper(
        sweeps={
            "mofo": ("methods.mofo.fraction", (0.05, 0.1, 0.15, 0.2)),
            "table3_mofo": ("methods.mofo.fraction", (0.05, 0.1, 0.15, 0.2, 0.4, 0.8)),
        }
    ),
    "sfa": Paper(
        sweeps={
            "sfa": ("methods.sfa.p", (0.25, 0.5, 0.75, 0.9, 0.96, 0.98, 1.0)),
            "wise_ft": ("methods.sfa.beta", (0.25, 0.5, 0.75)),
        },
        variants={
            "all logits": ALL_LOGITS,
            "Food-101": FOOD,
            "Food-101, all logits": replace(FOOD, values={**FOOD.values, **ALL_LOGITS.values}),
        },
    ),
}


@dataclass
class Cell:
    """A run of the paper, for all its seeds.

    Attributes:
        name: the config's, with the value of a sweep and the variant.
        config: the config's, with the variant.
        model: what replaces the config's backbone and weights; empty: nothing.
        values: the recipe's, overrides included.
        recipe: what comes of them; None if they are refused.
        reason: why it is skipped, or nothing.
        needs: what a run of it needs.
    """

    name: str
    config: str
    model: Mapping[str, Any]
    values: dict[str, Any]
    recipe: Recipe | None = None
    reason: str = ""
    needs: Estimate | None = None

    @property
    def backbone(self) -> str:
        """Its backbone, for people."""
        return self.recipe.model.backbone if self.recipe else str(self.model.get("backbone", ""))


def reproduce(
    paper: str,
    overrides: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0,),
    jobs: int = 1,
    output: Path | str | None = None,
    dry_run: bool = False,
    ask: Callable[[str], bool] = lambda _: True,
) -> Comparison | None:
    """Run the configs of a paper that can run here; say why the others cannot.

    Args:
        paper: a folder in ``configs/``.
        overrides: put on top of every recipe.
        seeds: of every recipe.
        jobs: runs side by side.
        output: folder of the runs and the report; default: ``runs/reproduce-<paper>``.
        dry_run: say what is needed and what is missing, and stop.
        ask: asked before more than an hour of runs; False stops.

    Returns:
        The comparison, in whose ``failures`` are the skipped ones too; None if nothing was run.

    Raises:
        ClbenchError: for an unknown paper, or if nothing of it can run.
    """
    folder = Path(output) if output is not None else Path("runs") / f"reproduce-{paper}"
    chosen = cells(paper, overrides or {})
    missing = Missing(fetch=not dry_run)
    _skip(chosen, missing)
    _estimate(chosen, everything=dry_run)
    seconds = _show(paper, chosen, missing, len(seeds))
    if dry_run:
        return None
    ready = [cell for cell in chosen if not cell.reason]
    skipped = {_title(cell, paper): f"skipped: {cell.reason}" for cell in chosen if cell.reason}
    if not ready:
        told = "; ".join(dict.fromkeys(cell.reason for cell in chosen))
        raise ClbenchError(f"nothing of {paper} can run here: {told}")
    if seconds > LONG and not ask(f"Run for about {duration(seconds)}? [y/N] "):
        return None
    made = compare(suite(paper, ready, seeds), folder, jobs)
    if skipped:
        made = replace(made, failures={**made.failures, **skipped})
        build(made, folder / "report", f"reproduce-{paper}")
    for name, reason in made.failures.items():
        print(f"{name}: {reason}", flush=True)
    return made


def cells(paper: str, overrides: Mapping[str, Any]) -> list[Cell]:
    """The runs of a paper: its configs, each with its sweep, in every variant, with every backbone.

    Raises:
        ClbenchError: if there is no such paper.
    """
    if paper not in PAPERS:
        raise ClbenchError(f"there is no paper {paper!r}; there are {', '.join(PAPERS)}")
    rules = PAPERS[paper]
    backbones: Sequence[Mapping[str, Any]] = rules.backbones or ({},)
    if "backbone" in (overrides.get("model") or {}):
        backbones = ({},)
    found: list[Cell] = []
    for config, name, values in _rows(paper, overrides):
        for model in backbones:
            full = merge(values, {"model": dict(model)}) if model else values
            cell = Cell(name, config, model, full)
            try:
                cell.recipe = parse(full)
            except ClbenchError as error:
                cell.reason = str(error)
            found.append(cell)
    hashes: set[str] = set()
    unique = []
    for cell in found:  # a sweep passes through the configs' own values, which come first
        key = recipe_hash(cell.recipe) if cell.recipe else cell.name
        if key not in hashes:
            unique.append(cell)
        hashes.add(key)
    return unique


def _rows(paper: str, overrides: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Names of the config and of the run, and its values: variant by variant, sweeps last."""
    rules = PAPERS[paper]
    files = {path.stem: read(str(path)) for path in _configs(paper)}
    for variant, change in {"": Variant({}), **rules.variants}.items():
        if variant and change.values.keys() & overrides.keys() & {"stream", "train_logits"}:
            continue
        end = f", {variant}" * bool(variant)
        configs = {
            name: _put_on(merge(merge(values, change.values), change.own.get(name, {})), overrides)
            for name, values in files.items()
        }
        swept = [
            (config, name, values)
            for config in configs.keys() & rules.sweeps.keys()
            for name, values in _swept(config, configs[config], *rules.sweeps[config])
        ]
        plain = [(name, name, values) for name, values in configs.items()]
        for config, name, values in [*plain, *sorted(swept, key=lambda one: one[1])]:
            yield config + end, name + end, values


def suite(paper: str, ready: Iterable[Cell], seeds: Sequence[int]) -> dict[str, Any]:
    """The runs as a suite for :func:`clbench.suite.comparison.compare`."""
    methods, overrides = dict[str, Any](), dict[str, Any]()
    models: list[Mapping[str, Any]] = []
    for cell in ready:
        rest = {k: v for k, v in cell.values.items() if k not in ("methods", "name", "seed")}
        if cell.model:
            own = {k: v for k, v in rest["model"].items() if k not in cell.model}
            rest["model"] = own
            if cell.model not in models:
                models.append(cell.model)
        methods[cell.name] = cell.values.get("methods") or {}
        overrides[cell.name] = rest
    made: dict[str, Any] = {
        "name": f"reproduce-{paper}",
        "base": {},
        "methods": methods,
        "overrides": overrides,
        "seeds": list(seeds),
    }
    return made | ({"backbones": [dict(model) for model in models]} if models else {})


def _configs(paper: str) -> list[Path]:
    for place in PLACES:
        found = sorted((place / paper).glob("*.yaml"))
        if found:
            return found
    raise ClbenchError(f"there are no configs in configs/{paper}/")


def _put_on(values: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the overrides in place, also where a task has settings of its own."""
    tasks = values.get("per_task") or {}
    own = {task: _without(fields, overrides) for task, fields in tasks.items()}
    return merge({**values, "per_task": own}, overrides)


def _without(fields: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not overridden; ``epochs`` and ``steps`` stand for each other."""
    gone = set(overrides) | ({"epochs", "steps"} if {"epochs", "steps"} & set(overrides) else set())
    left: dict[str, Any] = {}
    for key, value in fields.items():
        inner = overrides.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            left[key] = _without(value, inner)
        elif key not in gone:
            left[key] = value
    return left


def _swept(
    config: str, values: dict[str, Any], key: str, numbers: Sequence[float]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """The config with every value of its sweep."""
    for number in numbers:
        last = key.rpartition(".")[2]
        yield f"{config} {last}={number}", merge(values, nested({key: number}))


def _skip(chosen: Sequence[Cell], missing: Missing) -> None:
    """Give cells that cannot do without what is missing their reason.

    An independent stream of several data sets does without those that are missing.
    """
    for cell in chosen:
        if cell.recipe is None:
            continue
        try:
            _do_without(cell, missing.data(cell.recipe))
            gone = missing.weights(cell.recipe)
        except ClbenchError as error:
            cell.reason = str(error)
            continue
        cell.reason = cell.reason or lacking([], gone)


def _do_without(cell: Cell, gone: Sequence[str]) -> None:
    """Leave missing data sets out where each is learned on its own; else skip the cell."""
    assert cell.recipe is not None
    stream = cell.recipe.stream
    if gone and isinstance(stream, TransferConfig) and stream.independent:
        left = [name for name in stream.datasets if name not in gone]
        if left:
            cell.values = merge(cell.values, {"stream": {"datasets": left}})
            cell.recipe = parse(cell.values)
            return
    cell.reason = lacking(gone, [])


def _estimate(chosen: Sequence[Cell], everything: bool) -> None:
    """One estimate for each config and backbone; the values of a sweep share it."""
    made: dict[tuple[str, str], Estimate] = {}
    shared: Shared = {}
    for cell in chosen:
        if cell.recipe is None or (cell.reason and not everything):
            continue
        key = (cell.config, cell.backbone)
        if key not in made:
            print(f"Estimating {cell.config} ({cell.backbone}) …", flush=True)
            try:
                made[key] = estimate(cell.recipe, shared)
            except ClbenchError as error:
                cell.reason = cell.reason or str(error)
                continue
        cell.needs = made[key]


def _show(paper: str, chosen: Sequence[Cell], missing: Missing, seeds: int) -> float:
    """Print what will run and what it needs; returns the seconds of all runs one by one."""
    console = Console() if sys.stdout.isatty() else Console(width=120)
    table = Table("run", "backbone", "steps", "time", "memory", "", box=None, title_justify="left")
    table.title = f"{paper}: {len(chosen)} runs × {seeds} seed{'s' * (seeds != 1)}"
    known, ready = list[Estimate](), list[Estimate]()
    for cell in chosen:
        row = ["", "", ""]
        if cell.needs is not None:
            known.append(cell.needs)
            row = [
                f"{cell.needs.steps:,}",
                duration(cell.needs.seconds),
                size(cell.needs.memory["peak"]),
            ]
            if not cell.reason:
                ready.append(cell.needs)
        state = f"skipped: {cell.reason}" if cell.reason else "runs"
        table.add_row(escape(cell.name), cell.backbone, *row, escape(state))
    console.print(table)
    seconds = seeds * sum(needs.seconds for needs in ready)
    once: dict[str, int] = {}
    for needs in known:
        for name, count in needs.disk.items():
            once[name] = max(count, once.get(name, 0))
    runs = seeds * sum(needs.disk["run folder"] for needs in ready)
    disk = sum(once.values()) - once.get("run folder", 0) + runs
    peak = max((needs.memory["peak"] for needs in known), default=0)
    gpu = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if gpu else "this machine's CPU"
    told = [
        f"Needs about {duration(seconds)} for {len(ready) * seeds} runs one after the other "
        f"(on {where}), {size(disk)} of disk, {size(peak)} of "
        f"{'GPU' if gpu else 'resident'} memory a run."
    ]
    if not gpu:
        told.append("Missing: a GPU; the large networks will take as long as it says above.")
    told += missing.lines()
    told += dict.fromkeys(
        f"Note: {note}." for needs in known for note in needs.notes if "retention" in note
    )
    for line in told:
        console.print(escape(line), highlight=False, soft_wrap=True)
    return seconds


def _title(cell: Cell, paper: str) -> str:
    return f"{cell.name} ({cell.backbone})" if PAPERS[paper].backbones else cell.name
