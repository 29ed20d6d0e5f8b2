"""Docstrings and fields of settings as Markdown: what every tool that makes pages writes with."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from clbench.text.yamltext import dump

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: Limits as pydantic keeps them, by attribute.
LIMITS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}
LENGTHS = {"min_length": "of at least {}", "max_length": "of at most {}"}


def made(tool: str, source: str) -> str:
    """The first line of a page that a tool writes."""
    return f"<!-- Made by python tools/{tool}.py from {source}: change it there. -->"


def default(info: FieldInfo) -> str:
    """A field's default as YAML."""
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "must be given"
    return as_yaml(value)


def as_yaml(value: Any) -> str:
    """A value as it is written in a recipe, in one line."""
    return f"`{dump(_plain(value), flow=True).strip()}`".replace("|", "\\|")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple | set | frozenset) else value


def kind(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A field's type and bounds, in the words of Python: ``int ≥ 1 or null``.

    >>> kind(int | None)
    'int or null'
    >>> kind(list[float])
    'list of float'
    """
    bounds = _bounds(metadata)
    if not bounds:
        return _type(annotation)
    # Bounds are those of the value, if there is one.
    parts = [one for one in _alternatives(annotation) if one is not NoneType]
    text = f"{' or '.join(map(_type, parts))} {bounds}"
    return text if len(parts) == len(_alternatives(annotation)) else f"{text}, or null"


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        found = [item for one in inner[1:] for item in getattr(one, "metadata", [one])]
        return kind(inner[0], found)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_type, inner)))
    if origin in (list, tuple):
        of = [one for one in inner if one is not Ellipsis]
        if origin is tuple and Ellipsis not in inner:
            return f"list of {len(of)} {_type(of[0])}"
        return f"list of {' or '.join(map(_type, of))}"
    if origin is dict:
        return "mapping"
    if annotation is NoneType:
        return "null"
    if annotation is Any:
        return "any value"
    if isinstance(annotation, type) and issubclass(annotation, Path):
        return "path"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return annotation.__name__


def _bounds(metadata: Iterable[Any]) -> str:
    found: list[str] = []
    for item in metadata:
        for words in (LIMITS, LENGTHS):
            for name, text in words.items():
                if (limit := getattr(item, name, None)) is not None:
                    found.append(text.format(f"{limit:g}"))
    return ", ".join(found)


def table(rows: Iterable[tuple[str, FieldInfo]], values: Mapping[str, Any] | None = None) -> str:
    """A table of fields: name, type, default and description.

    Args:
        rows: names and fields.
        values: what stands in the place of defaults, by name.
    """
    return "\n".join(["| field | type | default | what it sets |", "| --- | --- | --- | --- |",
                      *_rows(rows, values or {})])  # fmt: skip


def _rows(rows: Iterable[tuple[str, FieldInfo]], values: Mapping[str, Any]) -> Iterator[str]:
    for name, info in rows:
        usual = as_yaml(values[name]) if name in values else default(info)
        what = cell(kind(info.annotation, info.metadata))
        yield f"| `{name}` | {what} | {usual} | {cell(info.description or '')} |"


def markdown(text: str) -> str:
    """A docstring as Markdown: blocks after ``::`` are YAML."""
    found: list[str] = []
    for block in text.split("\n\n"):
        if block.startswith("    "):
            found.append(f"```yaml\n{textwrap.dedent(block)}\n```")
        else:
            found.append(re.sub(r"::$", ":", inline(block)))
    return "\n\n".join(found)


def inline(text: str) -> str:
    """Roles and double backticks of a docstring as Markdown's."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


def sentence(text: str) -> str:
    """A summary as a sentence."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def cell(text: str) -> str:
    """A text as it stands in a table."""
    return re.sub(r"(?<!\\)\|", "\\|", " ".join(inline(text).split()))


def papers(module_doc: str) -> list[str]:
    """The papers that a module's docstring lists, each as a line."""
    start = module_doc.find("[0]")
    if start < 0:
        return []
    listed = re.split(r"\n(?=\[\d+\])", module_doc[start:].split("\n\n")[0])
    return [inline(" ".join(paper.split())) for paper in listed]


def write(folder: Path, pages: Mapping[str, str]) -> None:
    """Write pages by name, and take away those in the folder that there are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, "utf-8")
    for path in folder.glob("*.md"):
        if path.stem not in pages:
            path.unlink()


def google(text: str) -> str:
    """A docstring with ``Args:``, ``Returns:``, ``Raises:`` and examples as Markdown.

    >>> print(google("Half.\\n\\nArgs:\\n    x: a number.\\n\\nReturns:\\n    It."))
    Half.
    <BLANKLINE>
    - `x`: a number.
    <BLANKLINE>
    Returns: It.
    """
    found: list[str] = []
    for block in text.split("\n\n"):
        head, _, rest = block.partition("\n")
        if head in ("Args:", "Attributes:", "Raises:"):
            found.append("\n".join(_items(rest, "Raises " * (head == "Raises:"))))
        elif head == "Returns:":
            found.append(f"Returns: {inline(' '.join(rest.split()))}")
        elif block.startswith(">>>"):
            found.append(f"```python\n{block}\n```")
        else:
            found.append(inline(block))
    return "\n\n".join(found)


def _items(text: str, before: str) -> Iterator[str]:
    for item in re.split(r"\n(?=\S)", textwrap.dedent(text)):
        name, _, what = " ".join(item.split()).partition(": ")
        names = ", ".join(f"`{one}`" for one in name.split(", "))
        yield f"- {before}{names}: {inline(what)}"


def between(text: str, tool: str, middle: str) -> str:
    """A page's text with what a tool makes in its place, which two comments mark.

    Raises:
        ValueError: if the page has no such place.
    """
    begin, end = f"<!-- pages: python tools/{tool}.py -->", "<!-- end of pages -->"
    head, there, rest = text.partition(begin)
    _, ends, tail = rest.partition(end)
    if not (there and ends):
        raise ValueError(f"the page has no place for what tools/{tool}.py makes")
    return f"{head}{begin}\n{middle}\n{end}{tail}"
