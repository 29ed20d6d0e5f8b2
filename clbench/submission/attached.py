"""The code of plugins, beside the runs that were made with it: packed if asked for, never run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError
from clbench.plugins.loading import by_file, digest_of, key_of
from clbench.plugins.recipes import HASHES, names_in


def plugins_of(recipes: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """The files of the plugins that recipes were run with, by their names in a submission.

    Args:
        recipes: with ``plugins_sha256``.

    Raises:
        ClbenchError: if one is not here any more, or is not the one that was run.
    """
    hashes: dict[str, str] = {}
    places: dict[str, str] = {}
    for recipe in recipes:
        for name, sha256 in (recipe.get(HASHES) or {}).items():
            if hashes.setdefault(name, sha256) != sha256:
                raise ClbenchError(
                    f"--with_plugins: runs were made with two versions of {name}: pack them apart"
                )
        places |= {key_of(name): name for name in names_in(recipe)}
    found: dict[str, bytes] = {}
    for name, sha256 in hashes.items():
        files, now = _files(name, places.get(name, name))
        if now != sha256:
            raise ClbenchError(
                f"--with_plugins: {name} has changed since the runs (SHA-256 {now[:12]}, then "
                f"{sha256[:12]}): put the former one back, or pack without its code"
            )
        found |= {f"plugins/{path}": content for path, content in files.items()}
    return found


def _files(name: str, place: str) -> tuple[dict[str, bytes], str]:
    """The files of a plugin by their paths, and its SHA-256."""
    if by_file(place):
        try:
            content = Path(place).read_bytes()
        except OSError as error:
            raise ClbenchError(f"--with_plugins: {place}: {error.strerror}") from error
        return {name: content}, hashlib.sha256(content).hexdigest()
    where, sha256 = digest_of(name)
    if where.is_file():
        return {where.name: where.read_bytes()}, sha256
    files = sorted(where.rglob("*.py"))
    return {
        f"{where.name}/{f.relative_to(where).as_posix()}": f.read_bytes() for f in files
    }, sha256


def packed_sha256(name: str, files: Mapping[str, bytes]) -> str | None:
    """The SHA-256 of a plugin as it would be known by, of the files that came along.

    Args:
        name: of its file, or its module's whole name.
        files: by their paths.

    Returns:
        None if it did not come along.
    """
    if name in files:
        return hashlib.sha256(files[name]).hexdigest()
    package = name.partition(".")[0]
    own = {
        p.removeprefix(f"{package}/"): c for p, c in files.items() if p.startswith(f"{package}/")
    }
    if own:
        digest = hashlib.sha256()
        for path in sorted(own, key=Path):
            digest.update(f"{path}\0{len(own[path])}\0".encode())
            digest.update(own[path])
        return digest.hexdigest()
    alone = files.get(f"{package}.py")
    return None if alone is None else hashlib.sha256(alone).hexdigest()
