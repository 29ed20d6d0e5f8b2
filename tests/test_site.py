"""The documentation site: pages made from the code are current, and links, nav and words hold.

What needs MkDocs is a slow test, which `make docs` must have come before.
"""

import doctest
import re
import shutil
import subprocess
from pathlib import Path

import docs_links
import markdown
import measure_pages
import page_parts
import pytest
import recipe_pages
import score_pages
import stream_pages
import yaml
from markdown_it import MarkdownIt

from clbench.metrics.retained import MEASURES
from clbench.recipe.recipe import parse
from clbench.report.metrics import METRICS as COLUMNS
from clbench.streams import STREAMS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: By their paths on the site: the pages in docs/, and those of elsewhere.
PAGES = {
    path.relative_to(DOCS).as_posix(): path
    for path in DOCS.rglob("*.md")
    if "records" not in path.parts
} | {
    place: ROOT / source
    for source, place in docs_links.PAGES.items()
    if source not in docs_links.OWN and (ROOT / source).is_file()
}
WRITTEN = {place: path for place, path in PAGES.items() if path.suffix == ".md"}
HINT = "python tools/{}.py, or make pages"


def config():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def source(place):
    return PAGES[place].relative_to(ROOT).as_posix()


@pytest.mark.parametrize("tool", [stream_pages, score_pages, measure_pages])
def test_pages_are_current(tool):
    folder = DOCS / tool.__name__.replace("_pages", "s")
    made = tool.pages()
    assert {path.stem for path in folder.glob("*.md")} == {*made}
    for name, text in made.items():
        assert (folder / f"{name}.md").read_text("utf-8") == text, HINT.format(tool.__name__)
    text = tool.INDEX.read_text("utf-8")
    index = tool.index() if tool is stream_pages else tool.index(text)
    assert text == index, HINT.format(tool.__name__)


def test_the_recipe_reference_is_current():
    assert recipe_pages.PAGE.read_text("utf-8") == recipe_pages.page(), HINT.format("recipe_pages")


def test_every_stream_score_and_measure_has_a_page():
    for kind, rows in (("streams", STREAMS), ("measures", MEASURES)):
        assert {path.stem for path in (DOCS / kind).glob("*.md")} == {*rows}
    told = {name for name in COLUMNS if not re.search(r":|_micro$", name)}
    costs = {"stored_bytes", "weight_copies", "extra_passes_per_step", "flops", "seconds"}
    assert told - costs <= {*score_pages.SCORES}


def test_the_nav_has_every_page_once():
    nav = list(docs_links.pages_of(docs_links.expanded(config()["nav"], list(PAGES))))
    assert sorted(nav) == sorted(PAGES)


def test_words_of_a_nav_may_match_nothing_and_names_must_be_there():
    assert docs_links.expanded(["b*.md", {"X": ["y*.md"]}], ["a.md"]) == [{"X": []}]
    assert docs_links.expanded(["b.md"], ["a.md"]) == ["b.md"]  # which MkDocs refuses


def anchors(text):
    """Of a page's headings, as GitHub makes them."""
    found = []
    tokens = MarkdownIt("commonmark").parse(text)
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            inline = tokens[at + 1].children or []
            title = "".join(part.content for part in inline if part.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            again = sum(slug == one.rsplit("_", 1)[0] or slug == one for one in found)
            found.append(slug if not again else f"{slug}_{again}")
    return found


@pytest.mark.parametrize("place", WRITTEN)
def test_links_lead_to_pages_and_headings(place):
    """In the repository, with anchors; and on the site, where other files are copies."""
    text = WRITTEN[place].read_text("utf-8")
    for match in docs_links.LINK.finditer(text):
        target, _, anchor = match[3].partition("#")
        if re.match("[a-z]+:", target):
            continue
        file = (WRITTEN[place].parent / target).resolve() if target else WRITTEN[place]
        assert file.exists(), match[0]
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file.read_text("utf-8")), match[0]
    copies = {docs_links.copied(path) for path in docs_links.outside(text, source(place))}
    for match in docs_links.LINK.finditer(docs_links.rewritten(text, source(place), place)):
        target = match[3].partition("#")[0]
        if target and not re.match("[a-z]+:", target):
            path = (Path("/") / place).parent.joinpath(target)
            there = Path("/").joinpath(*re.sub(r"[^/]+/\.\./", "", path.as_posix()).split("/"))
            name = there.as_posix().lstrip("/")
            assert name in PAGES or name in copies or (DOCS / name).is_file(), match[0]


def test_both_readers_of_markdown_see_the_same():
    """GitHub and the site differ where lists or stars are written carelessly."""
    github = MarkdownIt("commonmark").enable("table")
    for path in WRITTEN.values():
        text = path.read_text("utf-8")
        here = markdown.markdown(text, extensions=["tables", "fenced_code", "sane_lists"])
        there = github.render(text)
        for tag in ("li", "ul", "ol", "table", "tr", "pre", "h2", "h3", "em", "strong", "code"):
            counts = [len(re.findall(f"<{tag}[ >]", html)) for html in (there, here)]
            assert counts[0] == counts[1], f"{path}: {tag}"


def test_a_link_is_a_page_a_copy_or_words():
    text = (
        "[a](../ARCHITECTURE.md#words) [b](../clbench/errors.py) [c](../clbench) [d](scores.md)\n\n"
        "```\n[a](../ARCHITECTURE.md)\n```\n"
    )
    found = docs_links.rewritten(text, "docs/use.md", "use.md")
    assert found == (
        "[a](architecture.md#words) [b](source/clbench/errors.py.txt) c [d](scores.md)\n\n"
        "```\n[a](../ARCHITECTURE.md)\n```\n"
    )
    assert list(docs_links.outside(text, "docs/use.md")) == ["clbench/errors.py"]
    assert docs_links.rewritten("[a](../../data/README.md)", "docs/a/b.md", "a/b.md") == (
        "[a](../data.md)"
    )


def test_what_a_site_loads_from_elsewhere_is_found(tmp_path):
    (tmp_path / "good.html").write_text(
        '<a href="https://x.org">x</a><img src="a.png"><link rel="canonical" href="https://x.org">'
    )
    assert docs_links.loaded_from_elsewhere(tmp_path) == []
    for bad in (
        '<script src="https://x.org/a.js"></script>',
        '<link rel="stylesheet" href="//x.org/a.css">',
        '<p style="background: url(https://x.org/a.png)">',
    ):
        (tmp_path / "bad.html").write_text(bad)
        assert len(docs_links.loaded_from_elsewhere(tmp_path)) == 1, bad
    (tmp_path / "bad.html").unlink()
    (tmp_path / "a.css").write_text("@import 'https://x.org/b.css'; p {background: url(b.png)}")
    assert docs_links.loaded_from_elsewhere(tmp_path) == ["a.css: https://x.org/b.css"]


def test_the_tutorial_is_a_page():
    text, pictures = docs_links.notebook(
        (DOCS / "tutorial.ipynb").read_text("utf-8"), "tutorial.md"
    )
    assert text.startswith("# ")
    assert "```python\n" in text
    assert pictures
    assert all(data.startswith(b"\x89PNG") for data in pictures.values())
    assert all(f"]({name})" in text for name in pictures)


@pytest.mark.parametrize("place", [place for place in WRITTEN if place.startswith("migration/")])
def test_recipes_of_the_migration_pages_are_recipes(place):
    found = re.findall(r"```yaml\n(.*?)```", WRITTEN[place].read_text("utf-8"), re.DOTALL)
    for text in found:
        parse(yaml.safe_load(text))
    assert found or place == "migration/avalanche.md"


def test_types_are_told_with_their_bounds():
    rows = page_parts.table(stream_pages.StreamConfig.model_fields.items())
    assert "| `validation` | float ≥ 0, < 1 | `0.1` |" in rows
    assert "| `first_tasks` | int ≥ 1, or null | `null` |" in rows
    assert "| `test_on` | `test` or `validation` | `test` |" in rows


def test_examples_of_the_tools():
    for module in (docs_links, page_parts):
        done = doctest.testmod(module)
        assert done.attempted
        assert not done.failed


@pytest.mark.slow
def test_the_site_can_be_built(tmp_path):
    tool = ROOT / ".venv-docs" / "bin" / "mkdocs"
    found = str(tool) if tool.is_file() else shutil.which("mkdocs")
    if found is None:
        pytest.skip("MkDocs is not installed: make docs")
    done = subprocess.run(
        [found, "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert docs_links.loaded_from_elsewhere(tmp_path / "site") == []
    assert (tmp_path / "site" / "methods" / "ewc.html").is_file()
    assert not list((tmp_path / "site").rglob("record.jsonl"))
