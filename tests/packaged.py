"""clbench as it is installed: an sdist, the wheel made from it, and an environment with that."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("build", "hatchling", "twine")  # of the extra `test`


def tool(*words, cwd=ROOT):
    """Run a module of this Python; what it says of a failure is the test's."""
    made = subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=cwd, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """A folder with the sdist, and the wheel that is built from the sdist."""
    if missing := [name for name in TOOLS if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed: pip install -e '.[test]'")
    place = tmp_path_factory.mktemp("dist")
    tool("build", "--no-isolation", "--outdir", place, ROOT, cwd=place)
    return place


@pytest.fixture(scope="session")
def installed(dist, tmp_path_factory):
    """The programs of a fresh environment with the wheel; other packages are those from here."""
    place = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.check_output(asked, text=True).strip())
    # Files of other packages' paths are not followed from here: an editable clbench is not seen.
    (site / "others.pth").write_text("\n".join(p for p in sys.path if p.endswith("-packages")))
    (wheel,) = dist.glob("*.whl")
    tool("pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    return place / "bin"


def outside():
    """The environment of a user who has the package and no checkout."""
    lost = ("PYTHONPATH", "LOCAL_RANK")
    kept = {name: value for name, value in os.environ.items() if name not in lost}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
