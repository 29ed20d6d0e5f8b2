"""Names in any script, drawn as they are: no mathematics, and a font that has their characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

#: Files of fonts that are tried first, by what their names begin with; then all others.
FIRST = ("NotoSansCJK-Regular", "SourceHanSans", "wqy-", "NotoSans", "Unifont", "unifont")
#: Font files that are looked into at most.
MOST = 400
#: Whether a browser will draw the texts, with fonts of its own.
_browser: ContextVar[bool] = ContextVar("browser", default=False)


@contextmanager
def literal(texts: Iterable[str]) -> Iterator[None]:
    """Figures made within draw texts as they are, where a font on this machine has the characters.

    Args:
        texts: what users named, and figures will show; other characters take no other font.
    """
    families = tuple(dict.fromkeys(found for c in _foreign(texts) if (found := _family(c))))
    style: dict[str, object] = {"text.parse_math": False}
    if families:
        style["font.family"] = [*mpl.rcParams["font.family"], *families]
    with mpl.rc_context(style):  # type: ignore[arg-type,unused-ignore]
        yield


@contextmanager
def in_browser() -> Iterator[None]:
    """Figures made within leave it to a browser to find fonts."""
    before = _browser.set(True)
    try:
        with mpl.rc_context({"text.parse_math": False}):
            yield
    finally:
        _browser.reset(before)


def drawable(text: str) -> str:
    """A text in which characters that no font has are written as their numbers.

    >>> drawable("Über $x_1$ Ω")
    'Über $x_1$ Ω'
    """
    if _browser.get() or all(ord(c) in _usual() for c in text):
        return text
    return "".join(c if ord(c) in _usual() or _family(c) else f"\\u{ord(c):04x}" for c in text)


def missing_glyphs(texts: Iterable[str]) -> str:
    """A sentence on characters that no font on this machine has; empty if there are none."""
    found = {_script(c) for c in _foreign(texts) if not _family(c)}
    if not found:
        return ""
    names = ", ".join(sorted(found))
    return (
        f"No font here has the characters of some names ({names}): pictures show their numbers. "
        "Install a font that has them, such as fonts-noto-cjk or fonts-noto-core."
    )


def _foreign(texts: Iterable[str]) -> list[str]:
    usual = _usual()
    return [c for c in dict.fromkeys("".join(texts)) if ord(c) not in usual and not c.isspace()]


@lru_cache(maxsize=1)
def _usual() -> frozenset[int]:
    """The characters of the font that is taken anyway."""
    return _characters(font_manager.findfont(font_manager.FontProperties()))


@lru_cache(maxsize=4096)
def _family(character: str) -> str | None:
    """A family that has a character; None if no font on this machine does."""
    for path in _files():
        if ord(character) in _characters(path):
            family = Path(path).name.split("-")[0]
            known = {entry.fname for entry in font_manager.fontManager.ttflist}
            for other in [path, *(p for p in _files() if Path(p).name.startswith(f"{family}-B"))]:
                if other not in known:  # installed since matplotlib listed them; bold comes along
                    font_manager.fontManager.addfont(other)
            return str(FT2Font(path).family_name)
    return None


@lru_cache(maxsize=1)
def _files() -> list[str]:
    def place(path: str) -> tuple[int, str]:
        name = Path(path).name
        first = next((i for i, begin in enumerate(FIRST) if name.startswith(begin)), len(FIRST))
        plain = "regular" in name.lower() or "-" not in name
        return (2 * first + (not plain), name)

    return sorted(font_manager.findSystemFonts(), key=place)[:MOST]


@lru_cache(maxsize=MOST)
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def _script(character: str) -> str:
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    return name.split(" ", 1)[0].split("-", 1)[0]
