"""Configs as the user names them: whose plugins are loaded, and whose are not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from clbench.plugins.recipes import admitted
from clbench.recipe.yamlfile import find, read_mapping

#: What lies beside a ``config.yaml`` that a run has written.
RUNS_OWN = ("record.jsonl", "environment.json", "checkpoints")


def read_config(name: str, output: Path | None = None) -> dict[str, Any]:
    """The values of a config; its plugins are loaded, unless it lies in a run folder.

    A run folder may be anybody's, and what it names is code.

    Args:
        name: its path or bare name.
        output: the run folder, where it is known.

    Raises:
        ClbenchError: if there is none, it is no mapping, or a plugin cannot be loaded.
    """
    path = find(name)
    values = read_mapping(path)
    if not in_run_folder(path, output):
        admitted(values)
    return values


def in_run_folder(config: Path, output: Path | None = None) -> bool:
    """Whether a config is one that a run has written."""
    folder = config.absolute().parent
    beside = any(os.path.lexists(folder / name) for name in RUNS_OWN)
    return config.name == "config.yaml" and (beside or (output and output.absolute()) == folder)
