"""The rows of a suite that a finished run can be measured with, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clbench.errors import ClbenchError, shown
from clbench.plugins.recipes import admitted
from clbench.recipe.yamlfile import find, read_mapping
from clbench.suite.suite import KEYS
from clbench.suite.unfold import unfold
from clbench.suite.values import PLACES, methods_of
from clbench.text.plain import check_plain

#: Keys of a suite that say what is trained, and how often: a run that is there was trained already.
TRAINING = ("name", "base", "seeds", "plugins")


def rows_to_lay(source: str, plugins: Sequence[str] = ()) -> dict[str, Mapping[str, Any]]:
    """By name, the methods of each row: those of ``methods``, and of ``grid``.

    Args:
        source: a suite's file, or its name in ``suites/``.
        plugins: beside the file's own, which are loaded.

    Raises:
        ClbenchError: for a key that is not understood, or a row that sets more than methods.
    """
    path = find(source, PLACES, "suite")
    values = read_mapping(path)
    check_plain(values, str(path))
    admitted(values, plugins)
    for key in values:
        if key not in (*TRAINING, "methods", "grid"):
            known = " and ".join(("methods", "grid"))
            why = "it is about training" if key in KEYS else "there is no such key"
            raise ClbenchError(
                f"{path}: {shown(key)}: {why}, and rows that are laid on a finished run are of "
                f"{known}"
            )
    rows = {}
    for name, row in unfold(methods_of(values), {}, values.get("grid")).items():
        if row.overrides or (isinstance(row.settings, Mapping) and "config" in row.settings):
            raise ClbenchError(
                f"{path}: {name} sets more than methods, and a finished run was trained as it was"
            )
        rows[name] = row.settings
    return rows
