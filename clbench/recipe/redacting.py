"""What tells of a machine or of a person is taken out of a run's files, and said to have been.

Paths that begin at a root or a home, or lead upwards, keep their last part: a recipe still says
what was run, and two paths that end alike stay two names. The command line, loggers and their
settings go altogether, and so do the names of this user and this host, in whatever text they stand
but what code and hubs go by: methods, streams, networks, plugins and repositories.
"""

from __future__ import annotations

import getpass
import json
import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, final

from clbench.files.disk import to_json
from clbench.plugins.loading import key_of
from clbench.text.hub_id import is_hub_id
from clbench.text.yamltext import dump, read_text

#: A text that is a path of one machine: from a root, a home or a drive, or upwards.
_WHOLE = re.compile(
    r"(~[\w.-]*([\\/]|$)|/|[A-Za-z]:[\\/]|\\\\|file:/|(\.\.?[\\/])*\.\.([\\/]|$)).*", re.DOTALL
)
#: A part of a path within a sentence; and a folder, whose name may have spaces.
_PART = r"""[^\s\\/'"`,;:()<>|]+"""
_FOLDER = rf"[\\/]{_PART}(?: {_PART}){{0,3}}(?=[\\/])"
#: The same as :data:`_WHOLE` within a sentence: with a folder at least.
_WITHIN = re.compile(
    r"""(?<![\w.:/~\\-])(file:)?(~[\w.-]*|[A-Za-z]:|\\\\[\w.-]+)?"""
    rf"""(?:{_FOLDER})+[\\/]{_PART}[\\/]?"""
)
#: Names that say nothing of anybody.
_COMMON = {
    *("root", "user", "users", "home", "admin", "ubuntu", "debian", "nobody", "runner", "guest"),
    *("localhost", "local", "localdomain", "host", "docker", "test", "data", "clbench", "python"),
}
_SHORTEST = 3
#: A word of a text as code writes it, and the name of a field.
_QUOTED = re.compile(r"""["']([A-Za-z]\w*)["']|^ +(\w+):""", re.MULTILINE)


@cache
def _words() -> frozenset[str]:
    """What clbench itself calls things: taken out, ``tiny`` would leave no recipe."""
    found = set[str]()
    for path in Path(__file__).parents[1].rglob("*.py"):
        for pair in _QUOTED.findall(path.read_text(encoding="utf-8")):
            found.update("".join(pair).lower().split("_"))
    return frozenset(found)


def own_names() -> set[str]:
    """The names of this user and of this host, without common ones and words of clbench."""
    found = {Path.home().name, platform.node(), *platform.node().split(".")[:1]}
    with suppress(OSError, KeyError, ImportError):  # a user without a name
        found.add(getpass.getuser())
    found = {n for n in found if len(n) >= _SHORTEST and n.lower() not in _COMMON}
    return {n for n in found if n.lower() not in _words()} if found else found


def without_folders(text: str) -> str:
    """A sentence in which of every path of a machine the last part is left.

    >>> without_folders("needs birds in /home/me/data")
    'needs birds in data'
    """
    return _WITHIN.sub(lambda found: re.split(r"[\\/]", found[0].rstrip("\\/"))[-1], text)


@final
class Redactor:
    """Takes things out of plain values, and counts them.

    Args:
        names: of users and hosts.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.paths: dict[str, str] = {}
        self.gone: Counter[str] = Counter()
        self._recipes: dict[str, str] = {}
        self._known = set[str]()
        words = sorted(map(re.escape, names), key=len, reverse=True)
        apart = rf"(?<![^\W_])(?:{'|'.join(words)})(?![^\W_])"
        self._names = re.compile(apart, re.IGNORECASE) if words else None

    def lines(self) -> Iterator[str]:
        """What was taken out, a line for each kind."""
        if self.paths:
            many = f"{len(self.paths)} paths of a machine" if len(self.paths) > 1 else "one path"
            yield f"{many}: of each its last part is left"
        for what, count in sorted(self.gone.items()):
            yield f"{what}, {'once' if count == 1 else f'{count} times'}"

    def path(self, path: str) -> str:
        """The last part of a path; paths that end alike get numbers."""
        path = path.rstrip("/\\") or path
        if path not in self.paths:
            last = re.split(r"[\\/]", path)[-1]
            last = self._named(last) if last not in ("", "~", "..", ".") else "folder"
            taken, number, name = set(self.paths.values()), 1, last
            while name in taken:
                number += 1
                name = f"{last}~{number}"
            self.paths[path] = name
        return self.paths[path]

    def text(self, text: str) -> str:
        """A text without paths, and without the names of users and hosts."""
        if text in self._known:
            return text
        if _WHOLE.fullmatch(text):
            return self.path(text)
        return self._named(_WITHIN.sub(lambda found: self.path(found[0]), text))

    def values(self, values: Any) -> Any:
        """Plain values of whose texts the same is true; keys too."""
        if isinstance(values, str):
            return self.text(values)
        if isinstance(values, Mapping):
            return {self.values(key): self.values(value) for key, value in values.items()}
        if isinstance(values, list):
            return [self.values(value) for value in values]
        return values

    def _named(self, text: str) -> str:
        if self._names is None:
            return text
        found, count = self._names.subn("name", text)
        if count:
            self.gone["names of a user or a host"] += count
        return found

    def _know(self, recipe: Mapping[str, Any]) -> None:
        """Leave what code and hubs go by as it is, wherever it stands."""
        found: list[Any] = []
        for key in ("methods", "metrics", "callbacks", "representation", "plugins_sha256"):
            found += recipe[key] if isinstance(recipe.get(key), Mapping) else ()
        for key in ("stream", "model", "optimizer", "schedule"):
            if isinstance(own := recipe.get(key), Mapping):
                found += [own.get("name"), own.get("backbone")]
                weights = own.get("weights")
                found += [weights] if isinstance(weights, str) and is_hub_id(weights) else []
        words = {word for word in found if isinstance(word, str)}
        self._known |= {w for w in words if not (_WHOLE.fullmatch(w) or _WITHIN.search(w))}

    def recipe(self, text: str) -> str:
        """A recipe as YAML; as it was, where nothing is taken out."""
        if text not in self._recipes:  # a record and the file beside it have the same
            self._recipes = {text: self._recipe(text)}
        return self._recipes[text]

    def _recipe(self, text: str) -> str:
        before = read_text(text, "the recipe")
        if not isinstance(before, dict):
            return text
        self._know(before)
        made: dict[str, Any] = {}
        for key, value in before.items():
            if key == "loggers" and value not in ({}, {"tensorboard": {}}, None):
                self.gone["loggers and their settings"] += 1
                made[key] = {}
            elif key == "plugins" and isinstance(value, list):
                made[key] = [self._plugin(name) for name in value]
            elif key == "data_dir" and isinstance(value, str) and _WHOLE.fullmatch(value):
                self.gone["where data lies (data_dir)"] += 1
                made[key] = "data"
            else:
                made[key] = self.values(value)
        return text if made == before else dump(made)

    def _plugin(self, name: Any) -> Any:
        known = key_of(name) if isinstance(name, str) else name
        if known != name:
            self.gone["where plugins lie"] += 1
        return known

    def record(self, content: bytes) -> bytes:
        """``record.jsonl``; lines of which nothing is taken out stay as they are."""
        return b"".join(self._line(line) for line in content.splitlines(keepends=True))

    def _line(self, line: bytes) -> bytes:
        before = json.loads(line)
        told = before.get("recipe")
        recipe = {"recipe": self.recipe(told)} if isinstance(told, str) else {}
        made = {k: recipe[k] if k in recipe else self.values(v) for k, v in before.items()}
        return line if made == before else (to_json(made) + "\n").encode()

    def environment(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """``environment.json``, without the command and the places of plugins."""
        made = {key: value for key, value in values.items() if key != "command"}
        if "command" in values:
            self.gone["the command line"] += 1
        plugins = made.get("plugins")
        if isinstance(plugins, Mapping):
            made["plugins"] = {
                name: {k: v for k, v in about.items() if k != "place"}
                for name, about in plugins.items()
                if isinstance(about, Mapping)
            }
        return dict(self.values(made))
