"""What recipes say of plugins: which they name, and the SHA-256 of those they are run with.

A recipe's own plugins are in ``plugins``; ``plugins_sha256`` is filled in when it is read, and
decides with all else which runs are the same. A recipe that has it already is a run's, or one that
asks for just that file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clbench.errors import ClbenchError, shown
from clbench.plugins.installed import load_installed
from clbench.plugins.loading import LOADED, key_of, load, rows_named, union

NAMES, HASHES = "plugins", "plugins_sha256"


class NotLoaded(ClbenchError):
    """A recipe names a plugin that the user has not named."""


class Changed(ClbenchError):
    """A plugin is not the one any more that a recipe was run with."""


def admitted(values: Mapping[str, Any], more: Sequence[str] = ()) -> Mapping[str, Any]:
    """Load the plugins that values of the user's own name; never those of a run folder.

    Args:
        values: of a recipe or a suite.
        more: named beside it, as by ``--plugins``.

    Returns:
        The values as they are.

    Raises:
        ClbenchError: if one cannot be loaded, or has another SHA-256 than is asked for.
    """
    load_installed()
    if isinstance(values, Mapping):  # else it is refused where it is read
        load(union(names_in(values), more))
        check(values.get(HASHES))
    return values


def names_in(values: Mapping[str, Any]) -> list[str]:
    """The plugins that values name.

    Raises:
        ClbenchError: if that is no list of names.
    """
    names = values.get(NAMES) or []
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) and n for n in names):
        raise ClbenchError(
            f"plugins = {shown(names)}: must be a list of files or modules, as in [my_method.py]"
        )
    return list(names)


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values with whole names and hashes of its plugins; nothing is imported.

    Loaded plugins of which it uses a row are among them, as a suite's are.

    Raises:
        NotLoaded: if one is not loaded.
        ClbenchError: if they are no names, or there is a hash of another one.
    """
    load_installed()
    names = union(names_in(values))
    if strange := [name for name in names if key_of(name) not in LOADED]:
        raise NotLoaded(
            f"the plugin {strange[0]} is not loaded, as what a run folder names could be anybody's "
            f"code: if you trust it, add --plugins {strange[0]}"
        )
    own = {key_of(name) for name in names}
    named = rows_named(values)
    used = [plugin for plugin in LOADED.values() if plugin.name in own or plugin.is_in(named)]
    names += [p.named for p in used if p.name not in own and not p.installed]
    there = {plugin.name: plugin.sha256 for plugin in used}
    given = values.get(HASHES)
    if not isinstance(given, Mapping):
        given = {}
    if lost := [name for name in given if name not in there]:
        raise NotLoaded(f"plugins_sha256 has {shown(lost[0])}, which is not among the plugins")
    return {**values, NAMES: names, HASHES: {**there, **given}}


def check(hashes: object) -> None:
    """See that the loaded plugins are those that a recipe was run with, or asks for.

    Args:
        hashes: its ``plugins_sha256``.

    Raises:
        Changed: if one has another SHA-256.
    """
    for name, sha256 in hashes.items() if isinstance(hashes, Mapping) else ():
        now = LOADED[name].sha256 if name in LOADED else None
        if now not in (None, sha256):
            raise Changed(
                f"the plugin {name} has changed (SHA-256 {now[:12]}, then {str(sha256)[:12]}): put "
                "the former one back, or run again into another folder, by a recipe without "
                "plugins_sha256"
            )


def told(hashes: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The plugins of a recipe for ``environment.json``: place and SHA-256."""
    return {
        name: {"place": str(LOADED[name].place), "sha256": sha256}
        for name, sha256 in hashes.items()
        if name in LOADED
    }
