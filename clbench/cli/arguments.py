"""The words of ``clbench train``: configs, and a field of the recipe by its dotted name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError, shown
from clbench.text.textfile import home


@dataclass
class Arguments:
    """What was asked for on the command line.

    Attributes:
        configs: files or bare names, in order.
        given: the words for each field of the recipe, by its dotted name.
        output: the run folder.
        flags: of :data:`FLAGS`.
    """

    configs: list[str] = field(default_factory=list)
    given: dict[str, list[str]] = field(default_factory=dict)
    output: Path | None = None
    flags: set[str] = field(default_factory=set)


FLAGS = {"resume", "print_config", "dry_run", "list", "version", "help"}


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Sort the words of a command line.

    Raises:
        ClbenchError: for a word that fits nowhere, or an option without its value or given twice.
    """
    arguments = Arguments()
    if {"-h", "--help"} & set(argv):
        arguments.flags.add("help")  # whatever else is there
        return arguments
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise ClbenchError(f"unexpected {shown(word)}: options start with --, see --help")
        typed, equals, value = word[2:].partition("=")
        name = _underscored(typed)
        if name in FLAGS:
            if equals:
                raise ClbenchError(f"--{name} takes no value, got {shown(value)}")
            arguments.flags.add(name)
            continue
        given = [value] if equals else []
        while not equals and words and not words[0].startswith("--"):
            given.append(words.pop(0))
        if not given:
            raise ClbenchError(f"--{typed} needs a value{_flag_near(name)}")
        if name == "config":
            arguments.configs += given
        elif not all(name.split(".")):
            raise ClbenchError(f"{shown(word)} names no field; see --help")
        elif name in arguments.given or (name == "output" and arguments.output is not None):
            raise ClbenchError(f"--{typed} is given twice")
        elif name == "output":
            arguments.output = folder_of("--output", given)
        else:
            arguments.given[name] = given
    return arguments


def folder_of(option: str, words: Sequence[str]) -> Path:
    """The one path among the words after an option; ``~`` is the user's home.

    Raises:
        ClbenchError: for an empty word, more than one, or what no path can hold.
    """
    if len(words) > 1:
        raise ClbenchError(
            f"unexpected {shown(words[1])}: options start with --, see --help; {option} takes one "
            "folder"
        )
    if not words[0].strip():
        raise ClbenchError(f"{option} needs a value: it is empty")
    if "\0" in words[0]:
        raise ClbenchError(f"{option} = {shown(words[0])} cannot be a path: it holds a NUL")
    return Path(home(words[0]))


def overrides(arguments: Arguments) -> dict[str, Any]:
    """The values that were given field by field.

    Raises:
        ClbenchError: for words that do not fit the field.
    """
    from clbench.cli.words import value_of
    from clbench.recipe.yamlfile import put

    tree: dict[str, Any] = {}
    for name, words in arguments.given.items():
        put(tree, name, value_of(f"--{name}", words, list(_annotations(name))))
    return tree


def values(arguments: Arguments) -> dict[str, Any]:
    """The values of a recipe: the configs and then the overrides on top."""
    from clbench.recipe.recipe import merge
    from clbench.recipe.yamlfile import read, read_mapping
    from clbench.runner.folder import recipe_of

    merged: dict[str, Any] = {}
    configs = arguments.configs
    if not configs and "resume" in arguments.flags and arguments.output is not None:
        config = arguments.output / "config.yaml"
        if os.path.lexists(config):  # else there is nothing to resume, and the run begins
            recipe_of(arguments.output)  # whose words name the file, where it is damaged
            return merge(read_mapping(config), overrides(arguments))
    for name in configs or ["default.yaml"]:
        merged = merge(merged, read(name))
    return merge(merged, overrides(arguments))


def _annotations(name: str) -> Iterator[Any]:
    """The types of a field by its dotted name; several where streams differ, none if unknown."""
    from clbench.methods import METHODS
    from clbench.recipe.recipe import Recipe, fields
    from clbench.streams import STREAMS

    for key, info in fields(Recipe):
        if key == name:
            yield info.annotation
    section, _, rest = name.partition(".")
    kinds: list[Any] = []
    if section == "stream":
        kinds = list(dict.fromkeys(STREAMS.values()))
    elif section == "methods":
        method, _, rest = rest.partition(".")
        kinds = [METHODS[method]] if method in METHODS else []
    for kind in kinds:
        for key, info in fields(kind):
            if key == rest:
                yield info.annotation


def _underscored(name: str) -> str:
    """``dry-run`` as ``dry_run``; names of tasks and files stay as they are."""
    if name.startswith(("per_task.", "per-task.")):
        first, task, *rest = name.split(".")
        return ".".join([first.replace("-", "_"), task, *(part.replace("-", "_") for part in rest)])
    return name.replace("-", "_")


def _flag_near(name: str) -> str:
    from clbench.explain import nearest

    return nearest(name, [*sorted(FLAGS), "config", "output"])
