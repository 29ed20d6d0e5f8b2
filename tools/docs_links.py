"""What the site makes of the repository: links, pages from elsewhere, notebooks, the nav.

Pages are read on GitHub, too: their links lead to files beside them, some out of docs/. On the site
these are pages, copies of sources, or, for folders, words. Needs nothing but Python.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Files out of docs/ that are pages of the site, where they are there.
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "data/README.md": "data.md",
    "docs/tutorial.ipynb": "tutorial.md",
}
#: Of these the site has a page of its own already.
OWN = ("README.md",)
#: What the site leaves out of docs/.
LEFT_OUT = ("results/*/records", "results/*/records/*")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)(`{3,}|~{3,})", re.MULTILINE)


def outside(text: str, source: str) -> Iterator[str]:
    """The files out of docs/ that a page links to and that are no pages, by their paths.

    Args:
        text: of the page.
        source: its path in the repository.
    """
    for match in LINK.finditer(text):
        path = _target(match[3], source)
        if path and not path.startswith("docs/") and path not in PAGES and (ROOT / path).is_file():
            yield path


def rewritten(text: str, source: str, place: str) -> str:
    """A page's text with its links as the site has them.

    Args:
        text: Markdown.
        source: the page's path in the repository.
        place: the page's path on the site, as Markdown.
    """

    def change(match: re.Match[str]) -> str:
        path = _target(match[3], source)
        if path is None:
            return match[0]
        anchor = match[3].partition("#")[2]
        within = path.removeprefix("docs/") if path.startswith("docs/") else ""
        if (ROOT / path).is_dir() or any(fnmatchcase(within, pattern) for pattern in LEFT_OUT):
            return match[2]  # is on no page: its name stays
        target = PAGES.get(path) or within or copied(path)
        anchor = "" if path in OWN else f"#{anchor}" * bool(anchor)
        return f"{match[1]}[{match[2]}]({_relative(target, place)}{anchor})"

    return _outside_fences(text, lambda part: LINK.sub(change, part))


def copied(path: str) -> str:
    """Where the site has a copy of a source file, which browsers then show."""
    return f"source/{path}" if path.endswith((".txt", ".csv", ".json")) else f"source/{path}.txt"


def expanded(nav: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """A nav whose patterns are the pages they match, in order; one may match nothing.

    Args:
        nav: as in mkdocs.yml.
        names: of all pages, by their paths below docs/.

    >>> expanded([{"Methods": ["methods.md", "methods/*.md"]}], ["methods/ewc.md", "methods.md"])
    [{'Methods': ['methods.md', 'methods/ewc.md']}]
    """
    found: list[Any] = []
    for entry in nav:
        if isinstance(entry, Mapping):
            ((title, inner),) = entry.items()
            if isinstance(inner, list):
                found.append({title: expanded(inner, names)})
            elif "*" not in inner or inner in names:
                found.append(entry)
            else:
                found += [{title: name} for name in sorted(names) if fnmatchcase(name, inner)]
        elif "*" in entry:
            found += [name for name in sorted(names) if fnmatchcase(name, entry)]
        else:
            found.append(entry)
    return found


def pages_of(nav: Sequence[Any]) -> Iterator[str]:
    """Every page of a nav, in order."""
    for entry in nav:
        inner = next(iter(entry.values())) if isinstance(entry, Mapping) else entry
        if isinstance(inner, list):
            yield from pages_of(inner)
        else:
            yield inner


def notebook(text: str, place: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page, and its pictures by their paths on the site.

    Args:
        text: of the file.
        place: of the page on the site.
    """
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        said: list[str] = []
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{posixpath.splitext(place)[0]}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![]({_relative(name, place)})")
            else:
                said.append("".join(output.get("text") or data.get("text/plain", ())))
        if told := _without_colours("".join(said)).strip("\n"):
            parts.append(f"```text\n{told}\n```")
    return "\n\n".join(parts) + "\n", pictures


class _Loads(HTMLParser):
    """What a page makes a browser fetch: all that is not a link to go to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of addresses that are fetched."""
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and given.get("rel") not in ("canonical", "alternate", "next", "prev"):
            self.found.append(given.get("href", ""))
        self.found += [given[name] for name in ("src", "srcset", "poster", "data") if name in given]


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Addresses of other machines that pages and styles would fetch, each with its file."""
    found: list[str] = []
    for path in sorted(site.rglob("*.html")):
        reader = _Loads()
        text = path.read_text("utf-8")
        reader.feed(text)
        addresses = reader.found + re.findall(r"url\(\s*['\"]?([^)'\"]+)", text)
        found += _elsewhere(path.relative_to(site), addresses)
    for path in sorted(site.rglob("*.css")):
        styles = path.read_text("utf-8")
        addresses = re.findall(r"url\(\s*['\"]?([^)'\"]+)|@import\s+['\"]([^'\"]+)", styles)
        found += _elsewhere(path.relative_to(site), ["".join(pair) for pair in addresses])
    return found


def _elsewhere(path: Path, addresses: Sequence[str]) -> Iterator[str]:
    for address in addresses:
        if re.match(r"\s*([a-z]+:)?//", address):
            yield f"{path}: {address}"


def _target(link: str, source: str) -> str | None:
    """The file in the repository that a link means; None for anchors and other places."""
    target = link.partition("#")[0]
    if not target or re.match(r"[a-z]+:|/", target):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _relative(target: str, place: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(place) or ".")


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Text with its parts changed that are no fenced code."""
    parts: list[str] = []
    at, fence = 0, ""
    for match in FENCE.finditer(text):
        if not fence:
            parts.append(change(text[at : match.start()]))
            at, fence = match.start(), match[2]
        elif match[2].startswith(fence):
            parts.append(text[at : match.end()])
            at, fence = match.end(), ""
    parts.append(text[at:] if fence else change(text[at:]))
    return "".join(parts)


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r\n", "\n"))
