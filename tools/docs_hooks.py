"""What MkDocs calls while it builds the site; ``make docs`` runs it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

sys.path.insert(0, str(Path(__file__).parent))
from docs_links import (
    OWN,
    PAGES,
    ROOT,
    copied,
    expanded,
    loaded_from_elsewhere,
    notebook,
    outside,
    rewritten,
)

log = get_plugin_logger("clbench")
#: Where pages of the site come from, by their paths on it.
SOURCES = {place: source for source, place in PAGES.items() if source not in OWN}
#: What is public: modules, and all that they export.
PUBLIC = (
    *("clbench", "clbench.method", "clbench.optim", "clbench.testing", "clbench.yamlfile"),
    *("clbench.record.scores", "clbench.record.stability", "clbench.estimate"),
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Anchors as GitHub makes them of headings, so that links to them hold in both places."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Pages and sources that lie out of docs/."""
    for source, place in PAGES.items():
        path = ROOT / source
        if source in OWN or not path.is_file():
            continue
        if path.suffix == ".ipynb":
            text, pictures = notebook(path.read_text("utf-8"), place)
            files.append(File.generated(config, place, content=text))
            for name, data in pictures.items():
                files.append(File.generated(config, name, content=data))
        else:
            files.append(File.generated(config, place, abs_src_path=str(path)))
    wanted: set[str] = set()
    for file in files.documentation_pages():
        wanted |= set(outside(file.content_string, _source(file.src_uri)))
    for path in sorted(wanted):
        files.append(File.generated(config, copied(path), abs_src_path=str(ROOT / path)))
    names = [file.src_uri for file in files.documentation_pages()]
    config.nav = expanded(config.nav or [], names)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them; without a comment at the top, which would hide the title."""
    plain = re.sub(r"\A<!--.*?-->\s*", "", markdown, flags=re.DOTALL)
    return rewritten(plain, _source(page.file.src_uri), page.file.src_uri)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Refuse a site that loads anything from elsewhere, or that lacks a public name."""
    site = Path(config.site_dir)
    if found := loaded_from_elsewhere(site):
        raise PluginError("the site loads from elsewhere: " + "; ".join(found[:5]))
    told = "".join(path.read_text("utf-8") for path in (site / "api").glob("*.html"))
    if missing := [name for name in public_names() if f'id="{name}"' not in told]:
        raise PluginError(f"no page in docs/api tells of {', '.join(missing)}")
    files = [path for path in site.rglob("*") if path.is_file()]
    pages = sum(path.suffix == ".html" for path in files)
    size = sum(path.stat().st_size for path in files) / 1e6
    log.info(f"{pages} pages in {site}, {size:.0f} MB in all")


def public_names() -> list[str]:
    """Every public name, by where it is imported from.

    Raises:
        PluginError: if one has no docstring.
    """
    package: Any = griffe.load("clbench", search_paths=[str(ROOT)])
    found, silent = [], []
    for module in PUBLIC:
        members = package[module.partition(".")[2]] if "." in module else package
        own = [n for n, m in members.members.items()
               if m.is_public and not (m.is_attribute or m.is_module)]  # fmt: skip
        for name in members.exports or own:
            if name.startswith("__"):
                continue
            path = f"{module}.{name}"
            thing = members[name].final_target if members[name].is_alias else members[name]
            found.append(path)
            if not (thing.has_docstring or thing.is_attribute):  # values are told by their pages
                silent.append(path)
    if silent:
        raise PluginError(f"no docstring: {', '.join(silent)}")
    return found


def _source(place: str) -> str:
    """Where a page of the site lies in the repository."""
    return SOURCES.get(place, f"docs/{place}")
