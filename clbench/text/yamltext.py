"""Plain values from YAML text, by a reader whose work is bounded by the text's size.

The values are those of YAML 1.2's core schema: ``yes``, ``1:30``, ``012`` and ``2026-01-01`` are
words, ``1e-3`` is a number. Anchors and merge keys (``<<``) are read; what they expand to counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from clbench.errors import ClbenchError, reason, shown

#: Values in a text once its aliases are expanded, levels of nesting, and keys of one mapping.
NODES, DEPTH, KEYS = 100_000, 32, 1_000
#: Whole numbers are 64 bits, as everywhere below.
WHOLE = 2**63

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
_TAG = "tag:yaml.org,2002:"
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}


def read_text(text: str, name: str, aliases: bool = True) -> Any:
    """Plain values from YAML text.

    Args:
        text: one document.
        name: of the file or option, for messages.
        aliases: False refuses them, in files that only runs write.

    Raises:
        ClbenchError: if it is no valid YAML, naming the place; if a key is there twice or is no
            text; or if it is larger or deeper than any settings are.
    """
    try:
        return _Reader(text, name, aliases).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}" if mark and not name.startswith("--") else ""
        raise ClbenchError(f"{name}{place}: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise ClbenchError(f"{name} is no valid YAML: {reason(error)}") from error


class _Reader:
    """One document's events, put together."""

    def __init__(self, text: str, name: str, aliases: bool) -> None:
        self.name, self.aliases = name, aliases
        self.events: Iterator[Any] = yaml.parse(text, _PARSER)
        self.nodes = 0
        #: By anchor: the value, its nodes and its height; None while it is being read.
        self.anchors: dict[str, tuple[Any, int, int] | None] = {}

    def document(self) -> Any:
        next(self.events)  # the stream's start
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value, _ = self.node(next(self.events), 1)
        next(self.events)  # the document's end
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self.wrong(event, "a second document starts (---): one is read")
        return value

    def node(self, event: Any, depth: int) -> tuple[Any, int]:
        """A value and its height."""
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, depth)
        self.count(event, 1, depth)
        before = self.nodes
        if event.anchor:
            self.anchors[event.anchor] = None
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value, height = self.scalar(event), 0
        elif isinstance(event, yaml.SequenceStartEvent):
            self.tagged(event, "seq")
            value, height = self.sequence(depth)
        else:
            self.tagged(event, "map")
            value, height = self.mapping(depth)
        if event.anchor:
            self.anchors[event.anchor] = value, self.nodes - before + 1, height
        return value, height

    def alias(self, event: Any, depth: int) -> tuple[Any, int]:
        if not self.aliases:
            raise self.wrong(event, f"has an alias (*{event.anchor:.40}): no run writes one")
        if event.anchor not in self.anchors:
            raise self.wrong(event, f"there is no anchor &{event.anchor} before *{event.anchor}")
        known = self.anchors[event.anchor]
        if known is None:
            raise self.wrong(event, f"*{event.anchor} stands within itself")
        value, nodes, height = known
        self.count(event, nodes, depth + height)
        return value, height

    def sequence(self, depth: int) -> tuple[list[Any], int]:
        made, height = [], 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            value, below = self.node(event, depth + 1)
            made.append(value)
            height = max(height, below + 1)
        return made, height

    def mapping(self, depth: int) -> tuple[dict[str, Any], int]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        height = 0
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            merges = (
                isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == "<<"
            )
            key, _ = self.node(event, depth + 1)
            value, below = self.node(next(self.events), depth + 1)
            height = max(height, below + 1)
            if merges:
                for base in value if isinstance(value, list) else [value]:
                    if not isinstance(base, dict):
                        raise self.wrong(event, "<< takes a mapping, or a list of them")
                    merged = base | merged
                continue
            if not isinstance(key, str):
                hint = "" if isinstance(key, dict | list) else ": put it into quotes"
                raise self.wrong(event, f"key {shown(key)} is no text{hint}")
            if key in own:
                raise self.wrong(event, f"key {shown(key)} is given twice")
            own[key] = value
            if len(own) > KEYS:
                raise self.wrong(event, f"a mapping of more than {KEYS:,} keys is no setting")
        return merged | own, height

    def scalar(self, event: Any) -> Any:
        text, tag = event.value, event.tag
        if not event.implicit[0] and tag in (None, "!"):
            return text
        if tag not in (None, "!") and tag.removeprefix(_TAG) not in _TYPES:
            raise self.unknown(event)
        if tag == f"{_TAG}str":
            return text
        value = self.resolved(event, text)
        if tag in (None, "!"):
            return value
        kind = _TYPES[tag.removeprefix(_TAG)]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.wrong(event, f"{shown(text)} is no {kind.__name__}")
        return value

    def resolved(self, event: Any, text: str) -> Any:
        if text in _WORDS:
            return _WORDS[text]
        if _WHOLE.fullmatch(text):
            digits = text.lstrip("+-0ox")
            value = int(text, 0) if len(digits) <= 64 else WHOLE
            if abs(value) >= WHOLE:
                raise self.wrong(
                    event, f"{shown(text)} is too large; put it into quotes if it is a text"
                )
            return value
        if _NUMBER.fullmatch(text):
            if len(text) > 400 or abs(float(text)) == float("inf"):
                raise self.wrong(event, f"{shown(text)} is too large or too long for a number")
            return float(text)
        if _SPECIAL.fullmatch(text):
            return float(text.replace(".", ""))
        return text

    def tagged(self, event: Any, kind: str) -> None:
        if event.tag not in (None, "!", f"{_TAG}{kind}"):
            raise self.unknown(event)

    def count(self, event: Any, nodes: int, depth: int) -> None:
        self.nodes += nodes
        if depth > DEPTH:
            raise self.wrong(event, f"nested more than {DEPTH} levels deep")
        if self.nodes > NODES:
            raise self.wrong(event, f"more than {NODES:,} values, aliases expanded")

    def unknown(self, event: Any) -> ClbenchError:
        return self.wrong(
            event,
            f"could not determine a constructor for the tag {shown(event.tag)}: only plain values "
            "are read",
        )

    def wrong(self, event: Any, reason: str) -> ClbenchError:
        line = "" if self.name.startswith("--") else f", line {event.start_mark.line + 1}"
        return ClbenchError(f"{self.name}{line}: {reason}")


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or :func:`read_text` would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern, _first in (
    ("float", _NUMBER, "-+.0123456789"),
    ("int", _WHOLE, "-+0123456789"),
):
    _Dumper.add_implicit_resolver(
        f"{_TAG}{_tag}", re.compile(f"^(?:{_pattern.pattern})$"), list(_first)
    )
_Dumper.add_multi_representer(dict, _Dumper.represent_dict)  # subclasses, too


def dump(values: Any, flow: bool = False) -> str:
    """YAML text that any reader reads as these values.

    Args:
        values: plain ones.
        flow: on one line.
    """
    text = yaml.dump(
        values,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=flow,
        width=float("inf") if flow else 80,
    )
    return text.removesuffix("...\n").strip() if flow else text
