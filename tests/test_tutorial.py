"""The tutorial notebook: its code runs, and the outputs in it are of a whole run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def cells(kind):
    made = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in made if cell["cell_type"] == kind]


def test_outputs_are_those_of_one_run_from_top_to_bottom():
    code = cells("code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = [output["output_type"] for cell in code for output in cell["outputs"]]
    assert "error" not in kinds
    shown = [kind for c in code for o in c["outputs"] for kind in o.get("data", {})]
    assert shown.count("image/png") == 3
    assert shown.count("text/html") >= 2


def test_it_opens_with_a_result():
    first = cells("code")[0]
    assert first["source"][-1] == "record"
    shown = "".join(first["outputs"][-1]["data"]["text/html"])
    assert 'class="clbench"' in shown
    assert "<svg" in shown


def test_outputs_are_small_and_name_no_place_on_a_machine():
    text = NOTEBOOK.read_text()
    assert len(text) < 300_000
    places = re.findall(r"(?<![\w.<])/(?:home|root|tmp|work|usr|opt|Users)/", text)
    assert not places
    assert str(ROOT) not in text


def test_links_lead_somewhere():
    targets = re.findall(
        r"\]\(([^)#:]+)\)", "".join("".join(c["source"]) for c in cells("markdown"))
    )
    assert targets
    for target in targets:
        assert (NOTEBOOK.parent / target).exists(), target


@pytest.mark.slow
def test_the_code_runs(tmp_path):
    lines = [line for cell in cells("code") for line in [*cell["source"], "\n"]]
    script = "".join(line for line in lines if not line.startswith("%"))
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "tutorial/report/report.html").exists()
    assert "leash" in (tmp_path / "tutorial/report/report.html").read_text()
