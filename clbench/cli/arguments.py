"""The words of ``clbench train``: configs, and a field of the recipe by its dotted name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clbench.cli.options import Given, read_words
from clbench.cli.tables import TRAIN
from clbench.errors import ClbenchError
from clbench.explain import nearest

#: Fields whose words are rows: names, or names with settings in YAML.
ROWS = ("loggers", "callbacks")


def read_arguments(argv: Sequence[str]) -> Given:
    """Sort the words of ``clbench train``.

    Raises:
        ClbenchError: for a word that fits nowhere, or an option without its value or given twice.
    """
    return read_words(TRAIN, argv)


def overrides(given: Given) -> dict[str, Any]:
    """The values that were given field by field.

    ``--methods {}`` clears the config's methods, wherever it stands among them: what else is given
    is all there is.

    Raises:
        ClbenchError: for words that do not fit the field.
    """
    from clbench.cli.words import value_of
    from clbench.recipe.merging import OPEN, Instead
    from clbench.recipe.yamlfile import put

    values: dict[str, Any] = {}
    for name, words in given.fields.items():
        if name in ROWS and len(words) > 1:
            value = [value_of(f"--{name}", [word], []) for word in words]
        else:
            value = value_of(f"--{name}", words, list(_annotations(name)))
        clears = isinstance(value, dict) and not value and name.rpartition(".")[2] in OPEN
        values[name] = Instead() if clears else value
    tree: dict[str, Any] = {}
    for name in sorted(values, key=lambda name: not isinstance(values[name], Instead)):
        put(tree, name, values[name])
    return tree


def values(given: Given) -> dict[str, Any]:
    """The values of a recipe: the configs and then the overrides on top; plugins are loaded."""
    from clbench.plugins.loading import load, union
    from clbench.plugins.recipes import HASHES, NAMES, check, names_in
    from clbench.recipe import yamlfile
    from clbench.recipe.addresses import addresses, refuse_unknown
    from clbench.recipe.merging import merge
    from clbench.recipe.opened import in_run_folder, read_config

    merged: dict[str, Any] = {}
    known: dict[str, str] = {}
    configs, output = given.get("config"), given.get("output")
    plugins: list[str] = given.get("plugins", [])
    load(plugins)
    if not configs and given.get("resume") and output is not None:
        config = output / "config.yaml"
        if os.path.lexists(config):  # else there is nothing to resume, and the run begins
            from clbench.runner.folder import recipe_of

            recipe_of(output)  # whose words name the file, where it is damaged
            merged = yamlfile.read_mapping(config)
            configs = []
    for name in ["default.yaml"] if configs is None else configs:
        read = read_config(name, output)
        plugins = [*names_in(read), *plugins]
        merged = merge(merged, read)
        known |= {} if in_run_folder(yamlfile.find(name), output) else addresses(read)
    own = overrides(given)
    merged = merge(merged, own)
    refuse_unknown(merged, known | addresses(own))
    _refuse_options(merged)
    check(merged.get(HASHES))
    return {**merged, NAMES: union(names_in(merged), plugins)}


def _refuse_options(values: Mapping[str, Any]) -> None:
    """Refuse keys that are no field but near an option, which people misspell as well.

    Raises:
        ClbenchError: naming the option.
    """
    from clbench.recipe.known import classes

    known, options = classes(), [f"--{option.name}" for option in TRAIN.options]
    for name in values.keys() - known.recipe.model_fields.keys():
        if not nearest(name, list(known.keys())) and (near := nearest(name, options)):
            raise ClbenchError(f"unknown key {name}{near}")


def _annotations(name: str) -> Iterator[Any]:
    """The types of a field by its dotted name; several where streams differ, none if unknown."""
    from clbench.recipe.classes import OF_MEASURES, fields
    from clbench.recipe.known import classes

    known = classes()
    for key, info in fields(known.recipe):
        if key == name:
            yield info.annotation
    kinds: list[Any] = []
    rest = name.removeprefix("stream.")
    if rest != name:
        kinds = list(dict.fromkeys(known.streams.values()))
    for section in ("methods", "loggers", *OF_MEASURES):
        if name.startswith(f"{section}."):
            row, _, rest = name.removeprefix(f"{section}.").partition(".")
            table = known.under(section)
            kinds = [table[row]] if row in table else []
    for kind in kinds:
        for key, info in fields(kind):
            if key == rest:
                yield info.annotation
