"""What people meet who join: CONTRIBUTING, forms, the workflow, the citation, releases."""

import datetime
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
TODAY = datetime.date(2030, 1, 2)
sys.path.insert(0, str(ROOT / "tools"))

from release import disagreements, unready  # noqa: E402
from test_house import SIDE, SPINE  # noqa: E402


def commands(page, heading):
    """The lines of a part's blocks of shell, without their comments."""
    part = re.split(r"^## ", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE)
    (text,) = [one for one in part if one.startswith(heading)]
    found = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [[re.split(r" {2,}#", line)[0] for line in block.splitlines()] for block in found]


def test_what_contributing_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    told = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    told += [line for block in commands("CONTRIBUTING.md", "Set up") for line in block]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in told:
        if line.startswith("make "):
            targets = [word for word in line.split()[1:] if "=" not in word]
            assert targets
            assert all(re.search(f"^{target}:", makefile, re.MULTILINE) for target in targets), line
    made = {"leash.py", "test_leash.py", "dist/", "load_model.py", "submission.json"}
    paths = [w for line in told for w in line.split() if re.fullmatch(r"[\w./-]+(\.\w{2,4}|/)", w)]
    assert len(paths) > 10
    for path in {path for path in paths if "NAME" not in path} - made:
        assert (ROOT / path).exists() or (ROOT / "clbench" / path).exists(), path


def test_contributing_shows_the_layers_of_the_house():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    (picture,) = re.findall(r"## The layers\n.*?```\n(.*?)```", text, re.DOTALL)
    names = [line.strip().split("  ")[0] for line in picture.splitlines()]
    floors = [[w for w in re.findall(r"[a-z]+", line) if w in SPINE] for line in names]
    heights = [max(map(SPINE.index, floor)) for floor in floors if floor]
    assert heights == sorted(heights, reverse=True)
    assert set(SIDE) <= set(re.findall(r"[a-z]+", picture))
    # Of the ground, not all is named.
    assert set(SPINE[SPINE.index("files") :]) <= {name for floor in floors for name in floor}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_forms(path):
    form = yaml.safe_load(path.read_text("utf-8"))
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "labels", "body"} == form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len({*ids}) == len(ids)
    for field in form["body"]:
        assert field["type"] in ("textarea", "input", "dropdown", "checkboxes")
        assert field["attributes"]["label"]
    assert any(f.get("validations", {}).get("required") for f in form["body"])


def test_the_workflow_runs_make_test_on_every_locked_python_and_may_do_nothing_else():
    flow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf-8"))
    assert flow["permissions"] == {"contents": "read"}
    assert set(flow[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true
    pythons = flow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert {f"python{p}" for p in pythons} == {p.stem for p in ROOT.glob("locks/python*.txt")}
    runs = {job: [s["run"] for s in x["steps"] if "run" in s] for job, x in flow["jobs"].items()}
    assert runs == {"test": ["make test"], "docs": ["make docs"]}
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("make test")
    for job in flow["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            assert re.fullmatch(
                r"actions/(checkout|setup-python)@v\d+", step.get("uses", "actions/checkout@v1")
            )
            assert "secrets." not in str(step)


def test_citation():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["license"] == "Apache-2.0"
    assert {"message", "title", "authors", "version", "type"} <= cited.keys()
    assert all(author.keys() == {"name"} for author in cited["authors"])


def test_version_changelog_and_citation_agree():
    assert disagreements(ROOT) == []


@pytest.fixture
def release(tmp_path):
    """A committed checkout of what a release looks at, and a function that changes a text of it."""
    (tmp_path / "clbench").mkdir()
    (tmp_path / "clbench/__init__.py").write_text('__version__ = "0.2.0"\n')
    log = "# Changelog\n\n## 0.2.0 (2030-01-01)\n\n### Added\n\n## 0.1.0 (2029-01-01)\n"
    (tmp_path / "CHANGELOG.md").write_text(log)
    (tmp_path / "CITATION.cff").write_text("version: 0.2.0\ndate-released: 2030-01-01\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)

    def change(name=None, old="", new=""):
        if name:
            text = (tmp_path / name).read_text()
            assert old in text
            (tmp_path / name).write_text(text.replace(old, new, 1))
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", "x"], check=True)
        return [*disagreements(tmp_path), *unready(tmp_path, TODAY)]

    return change


def test_a_release_that_is_ready(release, tmp_path):
    assert release() == []
    (tmp_path / "left.txt").touch()
    assert unready(tmp_path, TODAY) == ["not committed: left.txt, 1 in all"]


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("clbench/__init__.py", "0.2.0", "0.3.0", "clbench/__init__.py says 0.3.0"),
        ("CITATION.cff", "0.2.0", "0.1.0", "CITATION.cff says 0.1.0"),
        ("CITATION.cff", "date-released: 2030-01-01", "", "date-released is unreleased"),
        ("CHANGELOG.md", "(2030-01-01)", "(unreleased)", "the newest release has no date"),
        ("CHANGELOG.md", "(2030-01-01)", "(2030-01-03)", "is to come"),
        ("CHANGELOG.md", "0.2.0 (2030", "0.2.0, (2030", "should be `## X.Y.Z (YYYY-MM-DD)`"),
        ("CHANGELOG.md", "## 0.1.0", "## 0.3.0", "the newest first"),
        ("CHANGELOG.md", "(2029-01-01)", "(unreleased)", "only the first"),
        ("CHANGELOG.md", "### Added", "### New", "`### New` is none of Added"),
    ],
)
def test_a_release_that_is_not(release, name, old, new, said):
    assert any(said in line for line in release(name, old, new))


def test_a_version_is_released_once(release, tmp_path):
    release()
    subprocess.run(["git", "-C", str(tmp_path), "tag", "v0.2.0"], check=True)
    assert unready(tmp_path, TODAY) == ["there is a tag v0.2.0: raise the version"]


@pytest.mark.slow
def test_a_method_is_added_as_contributing_tells_it(tmp_path):
    here = tmp_path / "checkout"
    here.mkdir()
    for name in ("clbench", "configs", "suites", "tests", "tools"):
        shutil.copytree(ROOT / name, here / name, ignore=shutil.ignore_patterns("__pycache__"))
    skip = shutil.ignore_patterns("records")  # they are large: linked below
    shutil.copytree(ROOT / "docs", here / "docs", ignore=skip)
    for page in (ROOT / "docs/results").glob("*/records"):
        (here / page.relative_to(ROOT)).symlink_to(page)
    (here / "data").mkdir()
    shutil.copy(ROOT / "data/README.md", here / "data")
    for path in [*ROOT.glob("*.*"), ROOT / "LICENSE"]:
        if path.is_file() and path.name != ".git":
            shutil.copy(path, here)
    env = os.environ | {"PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}

    def run(lines):
        for line in lines:
            line = re.sub(r"^clbench ", "python -m clbench ", line)
            line = line.replace("python ", f"{sys.executable} ", 1)
            made = subprocess.run(
                ["bash", "-c", line], cwd=here, env=env, capture_output=True, text=True
            )
            assert made.returncode == 0, f"{line}\n{made.stdout[-3000:]}{made.stderr[-3000:]}"

    own, ours = commands("CONTRIBUTING.md", "Add a method")
    run(own)
    assert (here / "report/report.html").is_file()
    source = (here / "leash.py").read_text().split("\n\n#: What clbench finds here")[0]
    (here / "leash.py").unlink()
    (here / "clbench/methods/leash.py").write_text(f"{source.rstrip()}\n")
    row = "| `leash` | goes a little of the way back | a copy | `pull: 0` | – |\n"
    edits = [
        ("clbench/methods/__init__.py", '"lora": ', '"leash": "leash:Leash", "lora": '),
        (
            "tests/methods/test_all.py",
            '"sequential": {},',
            '"sequential": {}, "leash": {"pull": 0},',
        ),
        ("docs/methods.md", "low-rank updates: `lora`", "low-rank updates: `leash`, `lora`"),
        ("docs/methods.md", "| `lora` | trains", f"{row}| `lora` | trains"),
    ]
    for name, old, new in edits:
        text = (here / name).read_text("utf-8")
        assert old in text, name
        (here / name).write_text(text.replace(old, new, 1), "utf-8")
    run(ours)
