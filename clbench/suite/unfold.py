"""Short ways to write many methods of a suite: grids of a field's values, and variants of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clbench.errors import ClbenchError, shown
from clbench.recipe.merging import merge
from clbench.recipe.yamlfile import nested

#: Where an override of a whole suite takes the ground from variants that set the same.
GROUND = ("stream", "train_logits")


@dataclass(frozen=True)
class Unfolded:
    """A method of a suite.

    Attributes:
        settings: its methods, or ``{config: FILE}`` with changes of that config's methods.
        overrides: values of a recipe.
        of_grid: whether it is of a grid; then it may be a run that is there already.
    """

    settings: Mapping[str, Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    of_grid: bool = False

    def with_values(self, values: Mapping[str, Any], of_grid: bool = False) -> Unfolded:
        """With values of a recipe on top."""
        settings, changes = self.settings, values.get("methods")
        if changes:
            settings = merge({"methods": settings}, {"methods": changes})["methods"]
        rest = {key: value for key, value in values.items() if key != "methods"}
        return Unfolded(settings, merge(self.overrides, rest), of_grid)


def unfold(
    methods: Mapping[str, Any],
    overrides: Mapping[str, Any],
    grid: object = None,
    variants: object = None,
    over: Mapping[str, Any] | None = None,
) -> dict[str, Unfolded]:
    """The methods of a suite by name: in every variant as they are, then their grids.

    Args:
        methods: as in the suite.
        overrides: values of a recipe by method.
        grid: by method, fields with the values that each is to have in a run of its own.
        variants: by name, values of a recipe for all methods; in them, ``overrides`` by method.
        over: values that all runs are to have in the end: variants of the stream or of the logits
            that are overridden are left out.

    Raises:
        ClbenchError: naming the key that is not as it should be.
    """
    grids = {name: list(_points(name, given, methods)) for name, given in _mapping(grid, "grid")}
    rows: dict[str, Unfolded] = {}
    for variant, change in [("", {}), *_mapping(variants, "variants")]:
        own = dict(_mapping(change.get("overrides"), f"variants.{variant}.overrides", methods))
        values = {key: value for key, value in change.items() if key != "overrides"}
        if variant and values.keys() & (over or {}).keys() & set(GROUND):
            continue
        end = f", {variant}" * bool(variant)
        plain = {
            str(name): Unfolded(settings or {}, overrides.get(name) or {})
            .with_values(values)
            .with_values(own.get(name, {}))
            for name, settings in methods.items()
        }
        rows |= {name + end: row for name, row in plain.items()}
        for name, values_of in grids.items():
            for told, point in values_of:
                row = f"{name} {told}{end}"
                if row in rows:
                    raise ClbenchError(f"grid.{name}: there are two rows {shown(row)}")
                rows[row] = plain[name].with_values(point, of_grid=True)
    return rows


def _points(
    name: str, fields: Mapping[str, Any], methods: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each run of a method's grid is called, and its value."""
    if name not in methods:
        raise ClbenchError(f"grid.{name}: the suite has no such method")
    for key, numbers in fields.items():
        last = str(key).rpartition(".")[2]
        alone = sum(str(other).rpartition(".")[2] == last for other in fields) == 1
        if not isinstance(numbers, Sequence) or isinstance(numbers, str) or not numbers:
            raise ClbenchError(f"grid.{name}.{key} must be a list of values, got {shown(numbers)}")
        for number in numbers:
            yield f"{last if alone else key}={number}", nested({str(key): number})


def _mapping(
    given: object, where: str, methods: Mapping[str, Any] | None = None
) -> list[tuple[str, Mapping[str, Any]]]:
    """The entries of a mapping of names to mappings; none if there is nothing."""
    if given is None:
        return []
    if not isinstance(given, Mapping) or not all(isinstance(v, Mapping) for v in given.values()):
        raise ClbenchError(f"{where} must map names to mappings, got {shown(given)}")
    for name in given:
        if methods is not None and name not in methods:
            raise ClbenchError(f"{where}.{name}: the suite has no such method")
    return [(str(name), values) for name, values in given.items()]
