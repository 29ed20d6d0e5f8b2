"""Figures as SVG: equal bytes for equal figures, and made to follow the page's colours."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from clbench.report.drawing import FAINT, INK

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "clbench",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.labelsize": 9,
    "axes.titley": 1.0,  # else matplotlib lays out every axis twice to find the place
    "savefig.transparent": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def to_svg(figure: Figure) -> str:
    """A figure as a stand-alone SVG file, without date, so that it does not change by itself."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_NOTHING)
    return buffer.getvalue()


def inline(svg: str, key: str, title: str, text: str) -> str:
    """An SVG for a place within a page.

    Args:
        svg: from :func:`to_svg`.
        key: unique within the page; goes before every id.
        title: name of the figure for screen readers.
        text: what it shows, for those who do not see it.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"\s+xmlns(:\w+)?=\"[^\"]*\"", "", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'\bid="', f'id="{key}-', body)
    body = re.sub(r'href="#', f'href="#{key}-', body)
    body = body.replace("url(#", f"url(#{key}-")
    # Curves of tasks: a dark page defines another colour, a light one takes that of the file.
    body = re.sub(r"(stroke|fill): #([0-9a-f]{6})", r"\1: var(--c\2, #\2)", body)
    body = body.replace(f"var(--c{INK[1:]}, {INK})", INK)
    body = body.replace(f"var(--c{FAINT[1:]}, {FAINT})", FAINT)
    body = body.replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    names = f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(text)}</desc>'
    head = f'<svg role="img" aria-labelledby="{key}-t {key}-d"'
    return re.sub(r"<svg([^>]*)>", lambda m: f"{head}{m[1]}>{names}", body, count=1)


def styled() -> AbstractContextManager[None]:
    """The context in which the report's figures are made."""
    return mpl.rc_context(STYLE)
