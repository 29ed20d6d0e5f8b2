"""A suite: methods × streams × class orders × backbones × seeds, expanded into named runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.errors import ClbenchError, one_line, shown
from clbench.explain import nearest
from clbench.plugins.recipes import admitted
from clbench.recipe.known import check_early, classes
from clbench.recipe.merging import merge, put_on
from clbench.recipe.yamlfile import find, read_mapping
from clbench.suite.tuning import Tuning, corners, first, given, read_tuning, try_of
from clbench.suite.unfold import unfold
from clbench.suite.values import (
    PLACES,
    base_of,
    choices_of,
    class_orders,
    methods_of,
    overrides_of,
    read_base,
    title_of,
)
from clbench.text.names import wrong_name
from clbench.text.plain import check_plain

if TYPE_CHECKING:
    from clbench.recipe.recipe import Recipe

KEYS = (
    *("name", "base", "methods", "overrides", "grid", "variants", "streams", "backbones"),
    *("orders", "seeds", "tune", "plugins"),
)
#: Runs of one suite.
MOST = 5_000


@dataclass(frozen=True)
class Planned:
    """One run of a suite.

    Attributes:
        name: of its folder: stream, order, backbone, method, seed and the first digits of the hash.
        method: the suite's name for the method.
        recipe: the resolved recipe.
        hash: of what decides the numbers, see :func:`recipe_hash`.
    """

    name: str
    method: str
    recipe: Recipe
    hash: str


@dataclass(frozen=True)
class Cell:
    """What seeds are run of: a stream in a class order, a backbone and a method.

    Attributes:
        parts: their names, as far as the suite gives any.
        method: the suite's name for the method.
        values: of the recipe, all but name and seed.
    """

    parts: tuple[str, ...]
    method: str
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Unique within the suite."""
        return _safe("-".join(self.parts))

    def same_as(self, other: Cell) -> bool:
        """Whether their runs are the same."""
        return self.values["methods"] == other.values["methods"] and (
            self.plan(0).hash == other.plan(0).hash
        )

    def plan(self, seed: int, settings: Mapping[str, Any] | None = None) -> Planned:
        """The run of a seed, with settings (values of a recipe) on top.

        Raises:
            ClbenchError: if the recipe is refused.
        """
        # PyTorch takes seconds: what can be refused without it is, in `expand`.
        from clbench.recipe.recipe import parse
        from clbench.runner.folder import recipe_hash

        parts = [*self.parts, f"seed{seed}"]
        with _named(parts):
            recipe = parse(self._values(seed, settings))
        key = recipe_hash(recipe)
        return Planned(f"{_safe('-'.join(parts))}-{key[:8]}", self.method, recipe, key)

    def check_early(self, seed: int, settings: Mapping[str, Any] | None = None) -> None:
        """Refuse a run as :meth:`plan` does, as far as that can be known without torch."""
        with _named([*self.parts, f"seed{seed}"]):
            check_early(self._values(seed, settings))

    def before(self, tune: Tuning, seed: int) -> Cell:
        """The cell as it stands until tuning has chosen: where a run is refused for what is only
        searched for, with the first values of that."""
        try:
            self.plan(seed)
        except ClbenchError:
            return replace(self, values=put_on(self.values, first(tune, self.method, self.values)))
        return self

    def _values(self, seed: int, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        name = f"{self.method}-seed{seed}"
        names = {"seed": seed, "name": _safe(name) if wrong_name(name) else name}
        return put_on(self.values, settings or {}) | names


@dataclass(frozen=True)
class Suite:
    """What a suite asks for.

    Attributes:
        name: of its folder.
        cells: what seeds are run of.
        seeds: of every cell.
        tune: how settings are chosen before; None to take them as they are.
    """

    name: str
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    tune: Tuning | None = None

    @cached_property
    def runs(self) -> tuple[Planned, ...]:
        """Every run, with the settings as they are written."""
        return self.chosen({})

    def chosen(self, settings: Mapping[str, Mapping[str, Any]]) -> tuple[Planned, ...]:
        """Every run, with settings (values of a recipe) by the cell's name.

        Raises:
            ClbenchError: for a recipe that is refused, or two runs that are the same.
        """
        runs: dict[str, Planned] = {}
        for cell in self.cells:
            for seed in self.seeds:
                run = cell.plan(seed, settings.get(cell.name))
                if run.hash in runs:
                    raise ClbenchError(
                        f"{run.name} and {runs[run.hash].name} are the same run: a method, "
                        "stream, backbone or seed is there twice"
                    )
                runs[run.hash] = run
        return tuple(runs.values())


def load(
    source: str | Path | Mapping[str, Any],
    over: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
    plugins: Sequence[str] = (),
) -> Suite:
    """Read a suite and expand it.

    Args:
        source: a YAML file, its bare name in ``suites/``, or its values.
        over: values of a recipe, put on top of every run's.
        seeds: in place of the suite's own.
        plugins: beside the suite's own. Those of its ``plugins`` are loaded, and those of the
            configs that it names; a run keeps those that it uses.

    Raises:
        ClbenchError: naming the key, the value and the way out.
    """
    values, name = source, "suite"
    if not isinstance(values, Mapping):
        path = find(str(source), PLACES, "suite")
        values, name = read_mapping(path), path.stem
    admitted(values, plugins)
    return expand({**values, **({"seeds": list(seeds)} if seeds else {})}, name, over)


def expand(values: Mapping[str, Any], name: str, over: Mapping[str, Any] | None = None) -> Suite:
    """The runs of a suite: by stream, class order, backbone, method and seed.

    Args:
        values: as read from YAML. A method is a mapping of methods, or ``{config: FILE}``: then
            the config takes the place of ``base``, and its methods are the method's.
        name: of the suite, if it does not give one itself.
        over: values of a recipe, put on top of every run's.

    Raises:
        ClbenchError: for an unknown key, a recipe that is refused, or two runs that are the same.
    """
    check_plain(values, "the suite")
    for key in values:
        if key not in KEYS:
            way_out = nearest(key, list(KEYS))
            if key in classes().recipe.model_fields and f"{key}s" not in KEYS:
                way_out = (
                    ": it is a field of recipes, which stand in base (a config of your own, or "
                    "values), or in overrides for one method"
                )
            raise ClbenchError(f"unknown key {one_line(key[:80])} in the suite{way_out}")
    base = base_of(values)
    methods = methods_of(values)
    own, over = overrides_of(values, list(methods)), over or {}
    rows = unfold(methods, own, values.get("grid"), values.get("variants"), over)
    seeds = values.get("seeds", [base.get("seed", 0)])
    if not isinstance(seeds, list | tuple) or not seeds:
        raise ClbenchError(f"seeds must be a list of whole numbers, got {shown(seeds)}")
    streams = list(choices_of(values, "streams", "stream"))
    backbones = list(choices_of(values, "backbones", "model"))
    if "backbone" in (over.get("model") or {}):
        backbones = [("", {})]
    orders = list(class_orders(values))
    count = len(streams) * len(orders) * len(backbones) * len(rows) * len(seeds)
    if count > MOST:
        raise ClbenchError(
            f"the suite makes {count:,} runs, and at most {MOST:,} can be looked after: divide it"
        )
    bases = {method: _of_method(base, row.settings) for method, row in rows.items()}
    tune = None if values.get("tune") is None else read_tuning(values["tune"], list(rows))
    made: list[Cell] = []
    for (stream_name, stream), (order_name, order) in product(streams, orders):
        for backbone_name, backbone in backbones:
            for method, (start, chosen) in bases.items():
                merged = merge(merge(merge(start, stream), order), backbone)
                merged = put_on(merged, rows[method].overrides) | {"methods": chosen}
                parts = tuple(p for p in (stream_name, order_name, backbone_name, method) if p)
                made.append(Cell(parts, method, put_on(merged, over)))
    # A grid may hold a value that is there, and overrides make rows alike.
    repeats = {name for name, row in rows.items() if row.of_grid or over}
    cells: list[Cell] = []
    for cell in _checked(made, tune, seeds[0]):
        if cell.method not in repeats or not any(cell.same_as(other) for other in cells):
            cells.append(cell)
    suite = Suite(_safe(title_of(values, name)), tuple(cells), tuple(seeds), tune)
    # What cannot be run is refused before anything is.
    assert suite.runs
    if tune:
        _check_corners(cells, tune)
    return suite


def _check_corners(cells: Sequence[Cell], tune: Tuning) -> None:
    """Refuse what no run could be with: the smallest and the largest settings of each."""
    for cell in cells:
        for settings in corners(tune.space_of(cell.method)):
            cell.plan(tune.seed, try_of(tune, settings))


def _checked(cells: Sequence[Cell], tune: Tuning | None, seed: int) -> list[Cell]:
    """The cells, each as far as it can be refused without torch; with tuning, as before it."""
    for cell in cells:
        for key in tune.space_of(cell.method) if tune else ():
            if key.startswith("methods.") and not given(cell.values, key.rpartition(".")[0]):
                raise ClbenchError(
                    f"tune: {key} is searched for {cell.method}, which does not use that method: "
                    "move it to tune.methods"
                )
        cell.check_early(seed, first(tune, cell.method, cell.values) if tune else None)
    return [cell.before(tune, seed) for cell in cells] if tune else list(cells)


def _of_method(base: dict[str, Any], settings: Any) -> tuple[dict[str, Any], Any]:
    """A method's own base and its methods: ``{config: FILE}`` takes both from a config."""
    if not isinstance(settings, Mapping) or "config" not in settings:
        return base, settings or {}
    own = read_base(str(settings["config"]))
    more = {name: fields for name, fields in settings.items() if name != "config"}
    if not more:
        return own, own.get("methods") or {}
    if not isinstance(own.get("methods") or {}, Mapping):
        raise ClbenchError(f"{settings['config']}: methods must map names to settings")
    return own, merge({"methods": own.get("methods") or {}}, {"methods": more})["methods"]


@contextmanager
def _named(parts: Sequence[str]) -> Iterator[None]:
    """Say of which run a mistake is."""
    try:
        yield
    except ClbenchError as error:
        raise ClbenchError(f"{', '.join(parts)}: {error}") from error


def _safe(text: str) -> str:
    """A folder's name near to a text, of at most 150 bytes."""
    name = re.sub(r"[^\w.+=-]+", "_", text).strip("_.") or "suite"
    return name.encode()[:150].decode(errors="ignore")
