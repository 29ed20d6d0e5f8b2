"""Reading and writing recipes as YAML: no code is ever run, and no key is lost in silence."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from clbench.errors import ClbenchError

#: Where ``--config NAME`` looks: the user's folder, then the configs that come with clbench.
PLACES = (
    Path("configs"),
    Path(__file__).parent / "configs",
    Path(__file__).parent.parent / "configs",
)


class _Loader(yaml.SafeLoader):
    """Plain values only; reads 1e-3 as a number, as YAML 1.2 does; refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {twice[0]!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def read_text(text: str, name: str) -> Any:
    """Plain values from YAML text.

    Raises:
        ClbenchError: if it is no valid YAML, naming the place.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}" if mark else ""
        raise ClbenchError(f"{name}{place}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ClbenchError(f"{name} is no valid YAML: {error}") from error


def find(name: str, places: Sequence[Path] = PLACES, kind: str = "config") -> Path:
    """The file meant by a path or a bare name.

    Args:
        name: what the user gave, with or without ``.yaml``.
        places: folders to look in.
        kind: what is looked for; the folders are named after it.

    Raises:
        ClbenchError: if there is none; names those there are.
    """
    for path in (Path(name), *(place / name for place in places)):
        for candidate in (path, path.with_name(f"{path.name}.yaml")):
            if candidate.is_file():
                return candidate
    there = sorted({p.name for place in places if place.is_dir() for p in place.rglob("*.yaml")})
    raise ClbenchError(f"there is no {kind} {name!r}; {kind}s/ has {', '.join(there) or 'none'}")


def read(name: str) -> dict[str, Any]:
    """The values of a config file.

    Raises:
        ClbenchError: if there is none, or it is no mapping.
    """
    return mapping(find(name))


def mapping(path: Path) -> dict[str, Any]:
    """The values of a YAML file that holds a mapping.

    Raises:
        ClbenchError: if it cannot be read, or holds something else.
    """
    try:
        values = read_text(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not in UTF-8"
        raise ClbenchError(f"{path} cannot be read: {reason}") from error
    if not isinstance(values, dict):
        raise ClbenchError(f"{path} must be a mapping of keys to values")
    return values


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
            text = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
            lines.append(f"{pad}{name}: {text.replace('...', '').strip()}")
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
        ClbenchError: if a part of the key is no mapping.
    """
    *sections, last = dotted.split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ClbenchError(f"{dotted}: {section} was set to {inner!r} before")
        tree = inner
    tree[last] = value
