"""The words of ``clbench train``: configs, and a field of the recipe by its dotted name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError


@dataclass
class Arguments:
    """What was asked for on the command line."""

    configs: list[str] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)
    output: Path | None = None
    flags: set[str] = field(default_factory=set)


FLAGS = {"resume", "print_config", "dry_run", "list", "help"}


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Sort the words of a command line.

    Raises:
        ClbenchError: for a word that fits nowhere or an option without its value.
    """
    from clbench.yamlfile import put, read_text

    arguments = Arguments()
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "-h":
            word = "--help"
        if not word.startswith("--") or word == "--":
            raise ClbenchError(f"unexpected {word!r}: options start with --, see --help")
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name in FLAGS and not equals:
            arguments.flags.add(name)
            continue
        given = [value] if equals else []
        option = "-" if name == "config" else "--"  # values may be negative numbers
        while words and not words[0].startswith(option) and (name == "config" or not given):
            given.append(words.pop(0))
        if not given:
            raise ClbenchError(f"--{name} needs a value")
        if name == "config":
            arguments.configs += given
        elif name == "output":
            arguments.output = Path(given[0])
        else:
            put(arguments.overrides, name, read_text(given[0], f"--{name}"))
    return arguments


def values(arguments: Arguments) -> dict[str, Any]:
    """The values of a recipe: the configs and then the overrides on top."""
    from clbench.recipe import merge
    from clbench.yamlfile import mapping, read

    merged: dict[str, Any] = {}
    configs = arguments.configs
    if not configs and "resume" in arguments.flags and arguments.output is not None:
        config = arguments.output / "config.yaml"
        if os.path.lexists(config):  # else there is nothing to resume, and the run begins
            return merge(mapping(config), arguments.overrides)
    for name in configs or ["default.yaml"]:
        merged = merge(merged, read(name))
    return merge(merged, arguments.overrides)
