"""Images and weights that a stranger's recipe names by paths, looked for in one's own data folder.

A path of theirs is never followed: of ``data/birds/train``, ``birds/train`` or ``train`` is looked
for in the data folder, the longer one first; of one that leads upwards, its last part alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from clbench.models.weights_file import SUFFIXES
from clbench.text.hub_id import COMMIT, HubId, hub_id, is_hub_id

#: Values of ``retention.data`` that are no folder.
_WORDS = ("auto", "none")
#: One name for many files.
_PATTERN = re.compile(r"[*?\[{]")


@final
class NotFound(Exception):
    """Something that a recipe names by a path is not in the data folder."""


#: Options by which timm takes weights or code from a place.
_PLACES = re.compile(r"checkpoint|pretrained|cache|cfg|script|url|file|path")


def odd_option(options: Mapping[str, Any]) -> str:
    """The first option of a network by which a stranger's recipe could name a place; or nothing.

    >>> odd_option({"depth": 4, "pool": "avg"}), odd_option({"checkpoint_path": "x"})
    ('', 'checkpoint_path')
    """
    for name, value in options.items():
        words = value if isinstance(value, list) else [value]
        plain = all(
            one is None or isinstance(one, int | float) or re.fullmatch(r"\w{1,40}", str(one))
            for one in words
        )
        if _PLACES.search(name) or not plain or any(isinstance(one, list | dict) for one in words):
            return name
    return ""


def located(values: Mapping[str, Any], data_dir: Path) -> dict[str, Any]:
    """A recipe's values whose paths lie in a data folder.

    Args:
        values: plain ones.
        data_dir: the folder.

    Raises:
        NotFound: naming what is not there.
    """
    stream, model = dict(values.get("stream") or {}), dict(values.get("model") or {})
    for key in ("train", "test", "names"):
        if stream.get(key):
            stream[key] = _each(stream[key], data_dir)
    weights = model.get("weights")
    if isinstance(weights, str) and not is_hub_id(weights) and is_path(weights):
        model["weights"] = _found(weights, data_dir)
    found = dict(values) | {"stream": stream, "model": model}
    retention = values.get("retention")
    if isinstance(retention, Mapping):
        sets = retention.get("sets")
        own = {k: _folders(v, data_dir) for k, v in sets.items()} if isinstance(sets, dict) else {}
        found["retention"] = _folders(retention, data_dir) | ({"sets": own} if own else {})
    return found


def is_path(weights: str) -> bool:
    """Whether ``model.weights``, which are none of the hub, can only be a file."""
    return weights.endswith(SUFFIXES) or "/" in weights


def pinned(weights: str, source: str | None) -> str:
    """``model.weights``; of the hub, at the commit that a record has, which needs no network.

    Args:
        weights: as the recipe has them.
        source: where they came from, as the record has it.

    Raises:
        NotFound: if the record names no commit of that repository.
    """
    if not is_hub_id(weights):
        return weights
    told = source or ""
    there = hub_id(told) if is_hub_id(told) else HubId("", None)
    same = there.repository == hub_id(weights).repository
    if not same or not COMMIT.fullmatch(there.revision or ""):
        raise NotFound(f"the record has no commit of {weights:.100}")
    return told


def _folders(section: Any, data_dir: Path) -> Any:
    """A section of retention, whose ``data`` and ``train`` are folders."""
    if not isinstance(section, Mapping):
        return section
    named = {k: section[k] for k in ("data", "train") if isinstance(section.get(k), str)}
    return dict(section) | {
        key: path if path in _WORDS else _found(path, data_dir) for key, path in named.items()
    }


def _each(value: Any, data_dir: Path) -> Any:
    return (
        [_each(v, data_dir) for v in value] if isinstance(value, list) else _found(value, data_dir)
    )


def _found(path: Any, data_dir: Path) -> str:
    parts = re.split(r"[\\/]", str(path))
    parts = [part for part in parts if part not in ("", ".")]
    if str(path).startswith(("/", "~", "\\")) or ".." in parts or ":" in str(path):
        parts = parts[-1:]
    if not parts or parts[-1] in ("..", "~"):
        raise NotFound(f"{path!s:.100} is no path to look for")
    for start in range(len(parts)):
        there = data_dir.joinpath(*parts[start:])
        if (there.parent if _PATTERN.search(there.name) else there).exists():
            return str(there)
    raise NotFound(f"needs {'/'.join(parts)} in {data_dir}")
