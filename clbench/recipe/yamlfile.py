"""Reading and writing recipes as YAML: no code is ever run, and no key is lost in silence."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from clbench.errors import VALUE, ClbenchError, shown
from clbench.text.textfile import home, read_file
from clbench.text.yamltext import dump, read_text

#: Where ``--config NAME`` looks: the user's folder, then the configs that come with clbench.
PLACES = (
    Path("configs"),
    Path(__file__).parents[1] / "configs",
    Path(__file__).parents[2] / "configs",
)

#: Key of a file whose values it goes on from, by its name in the same folder.
EXTENDS = "extends"


def find(name: str, places: Sequence[Path] = PLACES, kind: str = "config") -> Path:
    """The file meant by a path or a bare name.

    Args:
        name: what the user gave, with or without ``.yaml``; ``~`` is the user's home.
        places: folders to look in.
        kind: what is looked for; the folders are named after it.

    Raises:
        ClbenchError: if there is none; names those there are.
    """
    if not name.strip():
        raise ClbenchError(f"the name of a {kind} is empty")
    paths = [Path(home(name)), *(place / name for place in places)]
    candidates = [made for path in paths for made in (path, Path(f"{path}.yaml"))]
    try:
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        if paths[0].exists():  # a folder, a pipe …: say so
            read_file(paths[0])
    except OSError as error:
        raise ClbenchError(f"{kind} {shown(name)}: {error.strerror or error}") from error
    except ValueError as error:
        raise ClbenchError(f"{kind} {shown(name)} cannot be a path: {error}") from error
    found = [p.relative_to(place).as_posix() for place in places for p in place.rglob("*.yaml")]
    there = sorted(set(found))  # nothing, of a folder that is not there
    names = [one.removesuffix(".yaml") for one in there]  # which would make all alike
    near = difflib.get_close_matches(name[:100].removesuffix(".yaml"), names, 3)
    told = f"did you mean {' or '.join(near)}?" if near else f"{kind}s/ has {', '.join(there)}"
    raise ClbenchError(f"there is no {kind} {shown(name)}; {told if there else 'there are none'}")


def read(name: str) -> dict[str, Any]:
    """The values of a config by its path or bare name.

    Raises:
        ClbenchError: if there is none, or it is no mapping.
    """
    return read_mapping(find(name))


def read_mapping(path: Path) -> dict[str, Any]:
    """The values of a YAML file, on top of those of the one beside it that it ``extends``.

    Raises:
        ClbenchError: if one cannot be read, is no mapping, or extends itself.
    """
    return _mapping(path, ())


def _mapping(path: Path, before: tuple[Path, ...]) -> dict[str, Any]:
    values = read_text(read_file(path), str(path))
    if not isinstance(values, dict):
        raise ClbenchError(f"{path} must be a mapping of keys to values")
    if EXTENDS not in values:
        return values
    name = values.pop(EXTENDS)
    if not isinstance(name, str) or not name.strip() or Path(name).name != name:
        raise ClbenchError(
            f"{path}: {EXTENDS} = {shown(name)}: write the name of one file in the same folder"
        )
    base = find(str(path.with_name(name)), ())
    if path in before:
        raise ClbenchError(f"{path}: {EXTENDS} comes back to the file itself: take it out of one")
    from clbench.recipe.merging import merge  # it knows the methods, which takes seconds

    return merge(_mapping(base, (*before, path)), values)


def commented(model: BaseModel, indent: int = 0) -> str:
    """A recipe as YAML that documents itself: each key with its description as a comment.

    Args:
        model: the recipe or a section of it.
        indent: spaces before each line.
    """
    pad = " " * indent
    lines = []
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        lines += [f"{pad}# {line}" for line in textwrap.wrap(info.description or "", 96 - indent)]
        if isinstance(value, BaseModel):
            lines += [f"{pad}{name}:", commented(value, indent + 2)]
        elif isinstance(value, Mapping) and any(isinstance(v, BaseModel) for v in value.values()):
            lines.append(f"{pad}{name}:")
            for key, inner in value.items():
                body = commented(inner, indent + 4)
                lines += [f"{pad}  {key}:", body] if body else [f"{pad}  {key}: {{}}"]
        else:
            plain = model.model_dump(mode="json", include={name})[name]
            lines.append(f"{pad}{name}: {dump(plain, flow=True)}")
    return "\n".join(lines)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings.

    >>> nested({"optimizer.lr": 0.1, "methods.sfa.p": 1, "methods.sfa.beta": 0.5})
    {'optimizer': {'lr': 0.1}, 'methods': {'sfa': {'p': 1, 'beta': 0.5}}}
    """
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        put(tree, key, value)
    return tree


def put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Set what a dotted key names.

    Raises:
        ClbenchError: if a part of the key is no mapping, or it is set already.
    """
    *sections, last = dotted.split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            before = dump(inner, flow=True)[:VALUE]
            raise ClbenchError(f"{dotted}: {section} was set to {before} before")
        tree = inner
    inner = tree.get(last)
    if inner and value and isinstance(inner, dict) and isinstance(value, dict):
        for key, part in value.items():  # in whatever order they were given
            if key in inner:
                raise ClbenchError(f"{dotted}.{key} is given twice")
            inner[key] = part
    elif last in tree:
        before = dump(inner, flow=True)[:VALUE]
        raise ClbenchError(f"{dotted}: it, or a part of it, was set to {before} before")
    else:
        tree[last] = value
