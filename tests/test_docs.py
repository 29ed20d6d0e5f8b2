"""The code in the documentation runs."""

import re
import shlex
from pathlib import Path

import pytest

from clbench.cli.cli import main
from clbench.methods import METHODS
from clbench.testing import check_method

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    *("ARCHITECTURE.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md"),
    *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md")),
    *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/methods/*.md")),
]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def linked(page):
    """The pages of this repository that a page has links to."""
    text = (ROOT / page).read_text()
    to = [(ROOT / page).parent / link for link in re.findall(r"\]\(([^)#:\s]+\.md)", text)]
    return {str(path.resolve().relative_to(ROOT)) for path in to if path.exists()}


def test_the_readme_leads_to_every_page_for_users():
    guides = {str(p.relative_to(ROOT)) for p in ROOT.glob("docs/migration/*.md")}
    names = ["start", "concepts", "faq", "why", "use", "submissions", "board", "sharing", "citing"]
    wanted = guides | {f"docs/{name}.md" for name in names} | {"CONTRIBUTING.md"}
    assert wanted <= linked("README.md")
    reached = {"README.md"}
    while more := set().union(*map(linked, reached)) - reached:
        reached |= more
    assert {str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md")} - reached == {"docs/index.md"}


def test_the_caption_of_the_readme_has_the_numbers_of_its_page():
    caption = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    page = (ROOT / "docs/results/every_method_cifar10/README.md").read_text()
    table = page.split("In %, class-incremental")[1].split("In %, task-incremental")[0]
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    mean = {row[0][2:]: (float(row[1].split()[0]), float(row[4].split()[0])) for row in lines}
    assert f": {len(lines)} rows]" in caption
    behind = [mean["multitask"][0] - mean[name][0] for name in ("fecam", "ranpac", "ncm")]
    assert f"{min(behind):.0f} to {max(behind):.0f} points below joint" in caption
    assert {mean[name][1] for name in ("fecam", "ranpac", "ncm")} == {20.0}
    assert 0.5 < mean["sequential"][1] / 20 < 0.6, "almost half of it is lost"
    home = (ROOT / "docs/index.md").read_text()
    picture = re.compile(r"!\[([^]]*)]\((?:docs/)?([^)]*)\)")
    assert picture.findall(home)[0] == picture.findall(caption)[0]
    assert "`sequential`) loses almost half of it" in home


def test_plain_pytorch():
    exec(compile("\n".join(blocks("docs/plain_pytorch.md")), "plain_pytorch.md", "exec"), {})


def test_readme(data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, method = blocks("README.md")
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "runs/split_digits-sfa-seed0/summary.json").exists()
    names = {}
    exec(compile(method, "leash.py", "exec"), names)
    check_method(names["METHODS"]["leash"], neutral={"pull": 0}, beside=("sfa",))


def test_start_in_five_minutes(data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("docs/start.md")
    exec(compile(code, "start.md", "exec"), {})
    assert "next to nothing" not in "".join(capsys.readouterr()), "an example whose methods act"
    assert (tmp_path / "runs/mine/curves.png").exists()


@pytest.mark.slow
def test_commands_of_start_in_five_minutes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/start.md").read_text(), re.DOTALL)
    commands = [line for block in found for line in block.splitlines() if line[:7] == "clbench"]
    assert len(commands) == 4
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command
    assert (tmp_path / "runs/split_digits-sfa-seed0/curves.png").exists()
    assert (tmp_path / "report/report.html").exists()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_what_is_said_of_methods_is_said_once():
    """Rows of a table, and points: where changes met, both may have stayed."""
    for part in (ROOT / "docs/methods.md").read_text().split("\n\n"):
        cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| ")]
        points = re.findall(r"^- (.{24})", part, re.MULTILINE)
        assert len({*cells}) == len(cells), sorted(cells)
        assert len({*points}) == len(points), sorted(points)


def test_architecture_example_is_a_method(monkeypatch):
    code, _ = blocks("ARCHITECTURE.md")
    imports = (
        "from typing import ClassVar\nimport torch\nfrom torch import nn\n"
        "from pydantic import Field\nfrom clbench.methods.base import Method\n"
    )
    names = {}
    exec(compile(imports + code, "ARCHITECTURE.md", "exec"), names)
    linear = names["nn"].Linear(2, 2)
    before = linear.weight.detach().clone()
    names["Shrink"](factor=0.5).after_step(linear, 1)
    assert (linear.weight == before / 2).all()


def test_architecture_example_is_a_metric():
    _, code = blocks("ARCHITECTURE.md")
    imports = (
        "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor\n"
        "from clbench.metrics.base import TaskMetric\n"
    )
    names = {}
    exec(compile(imports + code, "ARCHITECTURE.md", "exec"), names)
    torch = names["torch"]
    metric = names["Brier"](2)
    logits = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    metric.update(logits, torch.tensor([0, 0]), torch.tensor([0, 1]))
    # Even odds are wrong by a half in both classes, certainty by nothing.
    assert metric.compute().tolist() == [0.5, 0.0]


def test_the_overview_has_each_method_once_in_its_kinds_and_in_its_table():
    text = (ROOT / "docs/methods.md").read_text("utf-8")
    kinds, rest = text.split("By kind:\n")[1].split("| name |")
    table = rest.split("\n\n")[0]
    names = [part.split("|")[1] for part in table.splitlines()[2:]]
    for told in (kinds, "".join(names)):
        assert sorted(re.findall(r"`(\w+)`", told)) == sorted(METHODS)
