"""What a suite's values say, each part checked as it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError, shown
from clbench.explain import nearest
from clbench.plugins.recipes import admitted
from clbench.recipe.addresses import addresses
from clbench.recipe.merging import merge
from clbench.recipe.opened import in_run_folder, read_config
from clbench.recipe.yamlfile import EXTENDS, find, read_mapping
from clbench.text.names import wrong_name

#: Where ``clbench compare NAME`` looks besides the path itself.
PLACES = (
    Path("suites"),
    Path(__file__).parents[1] / "suites",
    Path(__file__).parents[2] / "suites",
)
#: Key of a base that is another suite's, with values on top.
SUITE = "suite"


def base_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What all its recipes start from."""
    base = values.get("base", "default")
    if isinstance(base, str):
        return read_base(base)
    if not isinstance(base, Mapping):
        raise ClbenchError(f"base must be a config's name or its values, got {shown(base)}")
    if EXTENDS in base:
        raise ClbenchError(
            f"base.{EXTENDS} = {shown(base[EXTENDS])}: only a file goes on from one beside it: "
            f"write base: NAME of a config, or base: {{{SUITE}: NAME, …}} for the base of a suite "
            "with values on top"
        )
    if SUITE not in base:
        return dict(admitted(base))
    own = {key: value for key, value in base.items() if key != SUITE}
    return merge(_base_of_suite(base[SUITE]), admitted(own))


def _base_of_suite(name: object) -> dict[str, Any]:
    if not isinstance(name, str):
        raise ClbenchError(f"base.{SUITE} must be the name of a suite, got {shown(name)}")
    path = find(name, PLACES, "suite")
    base = read_mapping(path).get("base", "default")
    if isinstance(base, Mapping) and SUITE in base:
        raise ClbenchError(
            f"base.{SUITE} = {shown(name)}: its base is that of {shown(base[SUITE])}: name this one"
        )
    return base_of({"base": base})


def read_base(name: str) -> dict[str, Any]:
    """A config as of :func:`~clbench.recipe.opened.read_config`, whose loggers' addresses count.

    Raises:
        ClbenchError: if it has some and lies in a run folder, which may be anybody's.
    """
    values = read_config(name)
    if in_run_folder(find(name)) and (found := addresses(values)):
        raise ClbenchError(
            f"{name}: {next(iter(found))} = {shown(next(iter(found.values())))} would be told of "
            "all runs, and what a run folder names could be anybody's: copy the file elsewhere, "
            "and take it out unless you know it"
        )
    return values


def title_of(values: Mapping[str, Any], usual: str) -> str:
    """Its name."""
    own = values.get("name", usual)
    if not isinstance(own, str):
        raise ClbenchError(f"name = {shown(own)}: should be a text: put it into quotes")
    if wrong := "name" in values and wrong_name(own):
        raise ClbenchError(f"name = {shown(own)}: {wrong}")
    return own


def methods_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The methods' settings, by the suite's names for them."""
    methods = values.get("methods")
    if not isinstance(methods, Mapping) or not methods:
        raise ClbenchError(
            "methods must name settings, as in methods: {plain: {}, sfa: {sfa: {p: 0.9}}}"
        )
    return methods


def overrides_of(values: Mapping[str, Any], methods: Sequence[str]) -> Mapping[str, Any]:
    """Values of a recipe by method."""
    given = values.get("overrides")
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ClbenchError(f"overrides must map methods to values, got {shown(given)}")
    for method, fields in given.items():
        if method not in methods:
            known = nearest(method, methods)
            raise ClbenchError(f"overrides.{method}: the suite has no such method{known}")
        if fields is not None and not isinstance(fields, Mapping):
            raise ClbenchError(
                f"overrides.{method} must be values of a recipe, as in {{epochs: 3}}, got "
                f"{shown(fields)}"
            )
    return given


def choices_of(
    values: Mapping[str, Any], key: str, section: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and overrides of ``streams`` or ``backbones``; one empty choice if not given."""
    field = "name" if section == "stream" else "backbone"
    given = values.get(key)
    if given is None:
        yield "", {}
        return
    if not isinstance(given, list) or not given:
        raise ClbenchError(f"{key} must be a list of names or of settings, got {shown(given)}")
    for choice in given:
        if isinstance(choice, str):
            yield choice, {section: {field: choice}}
        elif isinstance(choice, Mapping):
            name = [str(choice[field])] if field in choice else []
            rest = [f"{k}={v}" for k, v in choice.items() if k != field]
            yield "-".join([*name, *rest])[:60], {section: dict(choice)}
        else:
            raise ClbenchError(f"{key} must be a list of names or of settings, got {shown(choice)}")


def class_orders(values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and overrides of ``orders``: seeds of drawn class orders, names of others, or
    ``label``; one empty choice if not given."""
    given = values.get("orders")
    if given is None:
        yield "", {}
        return
    if not isinstance(given, list) or not given:
        raise ClbenchError(
            "orders must be a list of seeds of class orders, names of some (legacy-1993) or label, "
            f"got {shown(given)}"
        )
    for order in given:
        if isinstance(order, bool) or not isinstance(order, int | str):
            raise ClbenchError(f"orders: {shown(order)} is no whole number and no name")
        seed = None if isinstance(order, str) else order
        name = None if seed is not None or order == "label" else order
        told = f"order{order}" if seed is not None else f"order-{order}"
        yield told, {"stream": {"order": name, "order_seed": seed}}
