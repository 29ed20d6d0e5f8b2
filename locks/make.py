"""Writes the locks of all Pythons: `make lock`, on a machine that has one of them.

A lock is a file of pip constraints: releases that fit the ranges in pyproject.toml, of what
clbench, its extras and its tests need, and of what builds packages. Pins that still fit stay; with
`--upgrade` (`make lock ARGS=--upgrade`) all are the newest. uv resolves for other Pythons than its
own, by what registries say of packages, for Linux with x86-64.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
#: All that the release of PyTorch in the locks has wheels for.
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
BUILD = ("hatchling", "editables", "setuptools", "wheel")
PLATFORM = "x86_64-manylinux_2_28"


def main() -> None:
    """Write the lock of every Python; what is given goes to `uv pip compile`."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        bin_ = Path(folder, "bin")
        subprocess.run([bin_ / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
        build = Path(folder, "build.txt")
        build.write_text("\n".join(BUILD), encoding="utf-8")
        for version in PYTHONS:
            path = HERE / f"python{version}.txt"
            target = ["--python-version", version, "--python-platform", PLATFORM]
            plain = ["--quiet", "--no-header", "--no-annotate", "--extra", "test"]
            ask = ["pyproject.toml", str(build), "--output-file", str(path), *sys.argv[1:]]
            command = [bin_ / "uv", "pip", "compile", *target, *plain, *ask]
            subprocess.run(command, check=True, cwd=HERE.parent)
            pins = path.read_text(encoding="utf-8")
            head = f"# Python {version}; made by `make lock`.\n"
            path.write_text(head + pins, encoding="utf-8")
            print(f"{path}: {len(pins.splitlines())} packages")


if __name__ == "__main__":
    main()
