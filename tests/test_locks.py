"""The locks name every package that pyproject.toml asks for, at a release within its range."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
#: Extras that no lock of a Python has: mlflow brings a web server with its databases, and its tests
#: skip without; the documentation's has a lock of its own.
UNLOCKED = {"mlflow", "docs"}
ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "locks").glob("python*.txt"))


def extra(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(words) for words in project["optional-dependencies"][name]]


def wanted():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    extras = [words for name, words in optional.items() if name not in UNLOCKED]
    words = [*project["dependencies"], *(word for extra in extras for word in extra)]
    return [r for r in map(Requirement, words) if r.name != "clbench"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_has_everything_within_its_range(lock):
    assert_has(lock, wanted())


def test_the_documentation_has_one_for_every_python():
    assert_has(ROOT / "locks" / "docs.txt", extra("docs"))


def assert_has(lock, requirements):
    pins = [Requirement(line) for line in lock.read_text(encoding="utf-8").splitlines()[1:]]
    versions = {canonicalize_name(p.name): str(p.specifier).removeprefix("==") for p in pins}
    for requirement in requirements:
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_there_are_locks():
    assert {"python3.10", "python3.11", "python3.12", "python3.13"} <= {p.stem for p in LOCKS}
