"""Docstrings as Markdown: what mkdocstrings reads them through (an extension of griffe)."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> (?:.+\n?)+", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Roles of Sphinx, examples and lists of papers, in the form that Markdown has for them."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for everything that is read."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """A docstring's text.

    >>> as_markdown("See :func:`~a.b.double`::\\n\\n    x\\n\\n[0] A paper.\\n[1] Another.")
    'See `double`:\\n\\n    x\\n\\n- [0] A paper.\\n- [1] Another.'
    """
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    text = re.sub(r"^(\[\d+\] )", r"- \1", text, flags=re.MULTILINE)
    return EXAMPLE.sub(lambda match: f"```python\n{match[0].rstrip()}\n```\n", text)
