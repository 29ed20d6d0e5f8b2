"""Figures as SVG: equal bytes for equal figures, and made to follow the page's colours."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from clbench.report.drawing import COLOURS, FAINT, GREY, INK
from clbench.report.fonts import in_browser
from clbench.text.texts import writable

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
#: Colours that are the same on a dark page, or change in another way.
_SAME = {INK, FAINT, GREY, "#000000", "#ffffff", *COLOURS}
_PLACE = re.compile(r' (?:d|x|y)="[^"]*"')
_DIGITS = re.compile(r"(\.\d\d)\d+")
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def to_svg(figure: Figure) -> str:
    """A figure as a stand-alone SVG file, without date, so that it does not change by itself."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Texts stay texts, for which the browser has fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", metadata=_NOTHING)
    # A hundredth of a point is enough for places, and halves the file.
    return _PLACE.sub(lambda m: _DIGITS.sub(r"\1", m[0]), writable(buffer.getvalue()))


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
    body = re.sub(
        r"(stroke|fill): (#[0-9a-f]{6})",
        lambda m: m[0] if m[2] in _SAME else f"{m[1]}: var(--c{m[2][1:]}, {m[2]})",
        body,
    )
    body = body.replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    names = f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(text)}</desc>'
    head = f'<svg role="img" aria-labelledby="{key}-t {key}-d"'
    return re.sub(r"<svg([^>]*)>", lambda m: f"{head}{m[1]}>{names}", body, count=1)


@contextmanager
def styled() -> Iterator[None]:
    """The context in which the report's figures are made."""
    with mpl.rc_context(STYLE), in_browser():
        yield
