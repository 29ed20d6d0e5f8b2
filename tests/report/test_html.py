import importlib.util
import re
import shutil
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clbench.report import pictures
from clbench.report.build import build
from clbench.report.compare import compare

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)

EVIL = '<script>alert("x")</script> & $1 {{ 7 * 7 }}'
VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use", "image"}


class Checker(HTMLParser):
    """Collects tags, ids and links, and checks that every tag is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.tags = [], [], [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [values[k] for k in ("href", "src") if k in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        made_up.run_folder(runs, None, seed, 0.5 + seed / 100, names=[EVIL, "b"])
        made_up.run_folder(
            runs, {"sfa": {}}, seed, 0.6, title=EVIL, names=[EVIL, "b"], config={"note": EVIL}
        )
    made_up.run_folder(runs, {"multitask": {}}, 0, 0.9, names=[EVIL, "b"])
    return runs


@pytest.fixture(scope="module")
def folder(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    build(compare([runs], failures={"lost": EVIL}), output, EVIL)
    return output


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def checked(text):
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


def test_everything_is_there(folder):
    there = {path.name for path in folder.iterdir()}
    wanted = {"report.html", "leaderboard.csv", "leaderboard.md", "leaderboard.tex", "runs.csv"}
    wanted |= {"retention.csv"}
    assert wanted | {"figures"} == there
    assert len(list((folder / "figures").glob("*.svg"))) == 12


def test_names_cannot_break_out(text):
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "{{ 7 * 7 }}" in text
    assert "$1 49" not in text


def test_structure(checked):
    assert len(checked.ids) == len(set(checked.ids))
    for link in checked.links:
        assert link.startswith("data:") or link[1:] in checked.ids, link
    for _, values in checked.tags:
        for name in values.get("aria-labelledby", "").split():
            assert name in checked.ids
    tags = [tag for tag, _ in checked.tags]
    assert tags.count("h1") == tags.count("main") == 1
    figures = [values for tag, values in checked.tags if tag == "svg"]
    assert len(figures) == 12
    assert all(values["role"] == "img" and values["aria-labelledby"] for values in figures)


def test_needs_no_network(text):
    assert not re.search(r"https?://", text)
    assert "@import" not in text
    assert all(u.startswith(("#", "data:")) for u in re.findall(r"url\(([^)]*)\)", text))


def test_every_number_leads_to_its_runs(checked):
    groups = {i for i in checked.ids if re.fullmatch(r"g\d+", i)}
    assert len(groups) == 3
    assert {link[1:] for link in checked.links if re.fullmatch(r"#g\d+", link)} == groups


def test_equal_runs_make_equal_reports(folder, tmp_path):
    runs = tmp_path / "runs"
    made_up.run_folder(runs, None, 0)
    for name in ("one", "two"):
        build(compare([runs]), tmp_path / name)
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")}
        for n in ("one", "two")
    )
    assert one == two


def test_without_retention(tmp_path):
    made_up.run_folder(tmp_path / "runs", None, 0, retention=None)
    page = build(compare([tmp_path / "runs"]), tmp_path / "report")
    assert "no finished run measured retention" in page.read_text()


@pytest.mark.parametrize("options", [{"tasks": 1}, {"end": False}, {"methods": {"multitask": {}}}])
def test_reports_of_every_kind_of_run(tmp_path, options):
    made_up.run_folder(tmp_path / "runs", **options)
    assert build(compare([tmp_path / "runs"]), tmp_path / "report").is_file()


CHECK = """
<script>
addEventListener("load", () => {
  const errors = []; addEventListener("error", (e) => errors.push(e.message));
  const board = document.querySelector("table.board");
  const names = () => [...board.tBodies[0].rows].map((r) => r.cells[0].textContent.trim());
  const button = board.tHead.rows[0].cells[0].querySelector("button");
  button.click(); const up = names(); button.click(); const down = names();
  const sorted = board.tHead.rows[0].cells[0].getAttribute("aria-sort");
  location.hash = "#g0";
  setTimeout(() => {
    const open = document.getElementById("g0").open;
    const reversed = JSON.stringify(up) === JSON.stringify([...down].reverse());
    const entries = performance.getEntriesByType("resource");
    const loads = entries.filter((e) => !e.name.startsWith("data:"));
    document.title = JSON.stringify([reversed, sorted, open, loads.length, errors.length]);
  }, 200);
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
def test_in_chromium(text, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", f"{CHECK}</body>"))
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    words += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"]
    words += ["--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert '<title>[true,"descending",true,0,0]</title>' in done.stdout
    assert "CONSOLE" not in done.stderr


def test_needs_no_torch():
    """Reports are made on laptops too, and importing torch takes longer than the report."""
    code = "import sys, clbench.report.build; print({'torch', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


TOGETHER = """
import sys
from clbench.report import pictures
from clbench.report.compare import compare
assert pictures._may_fork() == (sys.platform == "linux" and pictures.cores() > 1)
comparison = compare([sys.argv[1]])
places = [(0, "task_incremental", name) for name in pictures.PLOTS]
alone = pictures._draw(comparison, places)
assert pictures._together(comparison, places) == alone != [None] * len(places)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")
def test_several_processes_draw_the_same(runs):
    subprocess.run([sys.executable, "-c", TOGETHER, str(runs)], check=True)


def test_a_process_that_is_killed_is_made_good(runs, monkeypatch):
    def killed(*_):
        raise BrokenProcessPool

    monkeypatch.setattr(pictures, "_may_fork", lambda: True)
    monkeypatch.setattr(pictures.ProcessPoolExecutor, "map", killed)
    assert len(pictures.draw(compare([runs]))) == 12
