"""What all pages of the site share: templates, links, and a policy that lets nothing else in.

Everything is escaped in the templates but the figures, whose texts are escaped where they are
drawn. A page needs no script to be read; one script of the site's own sorts tables.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from jinja2 import Environment

from clbench import __version__
from clbench.files.disk import write_atomic
from clbench.report.gather import Run
from clbench.report.metrics import METRICS, show
from clbench.report.templating import templates_of
from clbench.text.texts import cut, writable

#: Of a recipe or an environment, that a page shows; the files have the rest.
SHOWN = 60_000


def render(template: str, path: Path, up: int, **values: Any) -> None:
    """Write a page, unless it is there as it would be written.

    Args:
        template: its name.
        path: of the page.
        up: folders between the page and the site's root.
        values: what the template is given.
    """
    text = _templates().get_template(template).render(root="../" * up, **values)
    put_file(path, writable(text).encode())


def put_file(path: Path, content: bytes) -> None:
    """Write a file of the site; one that is there with this content stays as it is."""
    if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content, wait=False)  # thousands, each made again by the next build


def web_link(link: str | None) -> str | None:
    """A link that a page may have: to the web, and to nothing that a browser would run.

    >>> web_link("https://example.org/a?b=1"), web_link("javascript:alert(1)"), web_link("//x")
    ('https://example.org/a?b=1', None, None)
    """
    try:
        parts = urlsplit(link or "")
    except ValueError:
        return None
    return link if parts.scheme in ("http", "https") and parts.netloc else None


@cache
def _templates() -> Environment:
    # The report's own table, style and script, and the pages of the site.
    made = templates_of("clbench.board", "clbench.report")
    source = made.loader
    assert source is not None
    script = source.get_source(made, "page.js")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; style-src 'self' file: 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    made.globals |= {
        "script": script,
        "policy": policy,
        "version": __version__,
        "metrics": METRICS,
        "marks": {"best": "best", "tie": "within noise of the best"},
    }
    made.filters |= {
        "web_link": web_link,
        "recipe": _recipe,
        "json": _json,
        "seconds": lambda value: show(value, "seconds"),
        "accuracy": lambda value: show(value, "accuracy"),
        "shade": lambda value: 0 if value is None else round(10 * value),
    }
    return made


def site_style() -> str:
    """The style of all pages: the report's, and what the site's pages have besides."""
    made = _templates()
    assert made.loader is not None
    return "".join(made.loader.get_source(made, name)[0] for name in ("style.css", "board.css"))


def _recipe(run: Run) -> str:
    """The recipe as the record has it; of older records, as ``config.yaml`` has."""
    text = run.record.run.recipe
    if text is None:
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.dump(dict(run.recipe), None, dumper, sort_keys=False)
    return cut(text, SHOWN)


def _json(values: Mapping[str, Any]) -> str:
    return cut(json.dumps(values, indent=1, ensure_ascii=False), SHOWN)
