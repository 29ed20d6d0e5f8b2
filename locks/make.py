"""Writes the lock of the Python that runs it: `make lock`, or `python3.12 locks/make.py`.

A lock is a file of pip constraints: the newest releases that fit the ranges in pyproject.toml, of
what clbench, its extras and its tests need, and of what builds packages.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
BUILD = ["hatchling", "editables", "setuptools", "wheel"]


def main() -> None:
    """Let pip resolve everything without installing it, and write down what it chose."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        report = Path(folder, "report.json")
        pip = [str(Path(folder, "bin", "python")), "-m", "pip", "install", "--quiet"]
        ask = ["--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([*pip, *ask, "-e", ".[test]", *BUILD], check=True, cwd=HERE.parent)
        chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
    packages = {part["metadata"]["name"]: part["metadata"]["version"] for part in chosen}
    del packages["clbench"]
    pins = [f"{name}=={packages[name]}\n" for name in sorted(packages, key=str.lower)]
    path = HERE / f"python{version}.txt"
    path.write_text(f"# Python {version}; made by `make lock`.\n{''.join(pins)}", encoding="utf-8")
    print(f"{path}: {len(pins)} packages")


if __name__ == "__main__":
    main()
