"""Writes the locks of all Pythons, and the documentation's: `make lock`, on Python 3.11 or newer.

A lock is a file of pip constraints: releases that fit the ranges in pyproject.toml, of what
clbench, its extras and its tests need, and of what builds packages. The documentation has one for
every Python, as what it needs is pure Python (and ruff), and has to run on the oldest. Pins that
still fit stay; with `--upgrade` (`make lock ARGS=--upgrade`) all are the newest. uv resolves for
other Pythons than its own, by what registries say of packages, for Linux with x86-64.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import tomllib

HERE = Path(__file__).parent
#: All that the release of PyTorch in the locks has wheels for.
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
BUILD = ("hatchling", "editables", "setuptools", "wheel")
PLATFORM = "x86_64-manylinux_2_28"


def resolve(uv: Path, name: str, python: str, about: str, *sources: str) -> None:
    """Write one lock.

    Args:
        uv: its program.
        name: of the file.
        python: version that it is for.
        about: what it is of.
        sources: files of requirements, and arguments of `uv pip compile`.
    """
    path = HERE / name
    plain = ["--quiet", "--no-header", "--no-annotate", "--output-file", str(path)]
    target = ["--python-version", python, "--python-platform", PLATFORM]
    command = [uv, "pip", "compile", *target, *plain, *sources, *sys.argv[1:]]
    subprocess.run(command, check=True, cwd=HERE.parent)
    pins = path.read_text(encoding="utf-8")
    path.write_text(f"# {about}; made by `make lock`.\n{pins}", encoding="utf-8")
    print(f"{path}: {len(pins.splitlines())} packages")


def main() -> None:
    """Write all of them; what is given goes to `uv pip compile`."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        bin_ = Path(folder, "bin")
        subprocess.run([bin_ / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
        build, docs = Path(folder, "build.txt"), Path(folder, "docs.in")
        build.write_text("\n".join(BUILD), encoding="utf-8")
        docs.write_text("\n".join(project["project"]["optional-dependencies"]["docs"]), "utf-8")
        for version in PYTHONS:
            wanted = ("--extra", "test", "pyproject.toml", str(build))
            resolve(bin_ / "uv", f"python{version}.txt", version, f"Python {version}", *wanted)
        resolve(bin_ / "uv", "docs.txt", PYTHONS[0], "The documentation, any Python", str(docs))


if __name__ == "__main__":
    main()
