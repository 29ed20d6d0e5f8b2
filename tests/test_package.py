"""What `pip install clbench` gives, without a checkout: files, commands, types."""

import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from packaged import ROOT, outside, tool

import clbench

#: More than both are together: the records of the results are ten times as large.
MOST_BYTES = 4_000_000
TYPED = '''\
"""A method of a user's own, and a run with it."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from typing_extensions import assert_type

import clbench
from clbench.method import Method


class Shrink(Method):
    """Multiply the weights by ``factor`` after every step."""

    summary: ClassVar[str] = "shrink the weights after every step"
    factor: float = Field(0.999, gt=0, le=1, description="what to multiply by")

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        for parameter in model.parameters():
            parameter.mul_(self.factor)


record = clbench.run({"methods": {"shrink": Shrink(factor=0.5)}})
assert_type(record, clbench.Record)
last = float(record.accuracy_matrix()[-1].mean())
again = clbench.Record.load("runs/mine")
'''
WRONG = """\
import clbench

name: str = clbench.run({})
"""


@pytest.fixture
def call(installed, tmp_path):
    """Call a program of the environment in an empty folder: its exit status, and what it says."""

    def start(program, *words):
        made = subprocess.run(
            [installed / program, *words],
            cwd=tmp_path,
            env=outside(),
            capture_output=True,
            text=True,
        )
        return made.returncode, made.stdout + made.stderr

    return start


def tracked(*folders):
    """The repository's own files in folders, as git knows them."""
    asked = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard", *folders]
    made = subprocess.run(asked, capture_output=True, text=True)
    if made.returncode:
        pytest.skip("no checkout of git: which files are the project's is not known")
    return {name for name in made.stdout.split("\0") if (ROOT / name).is_file()}


def test_sdist_and_wheel_hold_what_runs_and_nothing_else(dist):
    sdist, wheel = next(dist.glob("*.tar.gz")), next(dist.glob("*.whl"))
    tool("twine", "check", "--strict", sdist, wheel)
    assert sdist.stat().st_size + wheel.stat().st_size < MOST_BYTES
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        built = set(archive.namelist())
    own = tracked("clbench", "configs", "suites")
    assert own <= source
    assert {name if name.startswith("clbench/") else f"clbench/{name}" for name in own} == {
        name for name in built if ".dist-info/" not in name
    }
    assert "clbench/py.typed" in built
    texts = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"}
    assert texts <= source
    assert not [name for name in source if name.startswith(("docs/", "tests/", "studies/"))]


def test_an_installed_clbench_works_from_any_folder(call, tmp_path):
    assert call("clbench", "--version") == (0, f"clbench {clbench.__version__}\n")
    code, told = call("clbench", "--list")
    assert (code, "wise_ft" in told) == (0, True)
    code, told = call("clbench", "--config", "split_cifar100_sfa.yaml", "--print_config")
    assert code == 0, told
    assert "backbone: vit_base_patch16_224" in told
    code, told = call("clbench", "compare", "nosuch")
    assert (code, "digits.yaml" in told) == (2, True)
    code, told = call("clbench", "compare", "every_method_reasons", "--optimizer.lrr", "1")
    assert (code, "did you mean optimizer.lr?" in told) == (2, True)
    code, told = call("clbench", "list", "--verified")
    assert (code, "ours not here" in told, "not run" in told) == (0, True, False)
    assert "which is not here" in told
    assert not list(tmp_path.iterdir())


def test_metadata():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    kinds = project["classifiers"]
    assert "Typing :: Typed" in kinds
    head = "Programming Language :: Python :: 3."
    named = {kind.removeprefix(head) for kind in kinds if kind.startswith(head)}
    locked = {path.stem.removeprefix("python3.") for path in ROOT.glob("locks/python*.txt")}
    assert named == locked
    assert project["requires-python"] == f">=3.{min(map(int, named))}"


def test_extras_that_are_named_are_there():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pages = [*ROOT.glob("clbench/**/*.py"), *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    text = "".join(path.read_text("utf-8") for path in [*pages, ROOT / "data/README.md"])
    named = re.findall(r"pip install (?:-e )?'(?:clbench|\.)\[([\w,]+)\]'", text)
    assert {"avalanche", "pandas", "parquet", "slurm", "tune"} <= set(named)
    assert set(named) <= project["optional-dependencies"].keys()
    assert "pip install clbench[" not in text  # a shell may take the brackets for its own


@pytest.mark.slow
def test_the_types_of_an_installed_clbench_are_seen(installed, tmp_path):
    (tmp_path / "mine.py").write_text(TYPED)
    (tmp_path / "wrong.py").write_text(WRONG)
    words = ["--strict", "--python-executable", installed / "python", "mine.py", "wrong.py"]
    made = subprocess.run(
        [sys.executable, "-m", "mypy", *words],
        cwd=tmp_path,
        env=outside(),
        capture_output=True,
        text=True,
    )
    (error, _) = made.stdout.splitlines()
    assert error.startswith("wrong.py:3: error: Incompatible types in assignment"), made.stdout


@pytest.mark.slow
def test_an_installed_clbench_runs(call, tmp_path):
    code, told = call("clbench", "compare", "digits", "--dry_run")
    assert code == 0, told
    assert "8 runs: 0 finished, 8 to do" in told
    program = (
        "import clbench\n"
        "made = clbench.run({'stream': {'name': 'split_digits', 'first_tasks': 2}, 'steps': 3, "
        "'images': {'size': 16}, 'model': {'backbone': 'tiny_cnn', 'weights': 'none'}, "
        "'trainer': {'accelerator': 'cpu', 'enable_progress_bar': False}})\n"
        "assert made.accuracy_matrix().shape == (2, 2)\n"
        "print(clbench.__file__)\n"
    )
    code, told = call("python", "-c", program)
    assert code == 0, told
    assert str(ROOT) not in told.splitlines()[-1]
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "model.safetensors").is_file()
