"""Writes the lock of the Python that runs it: `make lock`, or `python3.12 locks/make.py`.

A lock is a file of pip constraints: the newest releases that fit the ranges in pyproject.toml, of
what clbench, its extras and its tests need, and of what builds packages. `make lock-docs`, or
`python3.12 locks/make.py docs`, writes that of the documentation, one for every Python: what it
needs is pure Python (and ruff), and has to run on the oldest.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
BUILD = ["hatchling", "editables", "setuptools", "wheel"]


OLDEST = "3.10"


def resolved(*wanted: str) -> list[str]:
    """Pins of all that pip would install for some requirements; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        report = Path(folder, "report.json")
        pip = [str(Path(folder, "bin", "python")), "-m", "pip", "install", "--quiet"]
        ask = ["--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([*pip, *ask, *wanted], check=True, cwd=HERE.parent)
        chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
    packages = {part["metadata"]["name"]: part["metadata"]["version"] for part in chosen}
    packages.pop("clbench", None)
    return [f"{name}=={packages[name]}\n" for name in sorted(packages, key=str.lower)]


def write(path: Path, head: str, pins: list[str]) -> None:
    """Write a lock."""
    path.write_text(f"# {head}\n{''.join(pins)}", encoding="utf-8")
    print(f"{path}: {len(pins)} packages")


def main() -> None:
    """The lock of this Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    pins = resolved("-e", ".[test]", *BUILD)
    write(HERE / f"python{version}.txt", f"Python {version}; made by `make lock`.", pins)


def docs() -> None:
    """The documentation's lock; from Python 3.11 on, which reads TOML."""
    import tomllib

    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = project["project"]["optional-dependencies"]["docs"]
    with tempfile.TemporaryDirectory() as nowhere:
        oldest = ["--python-version", OLDEST, "--only-binary", ":all:", "--target", nowhere]
        pins = resolved(*oldest, *wanted)
    write(HERE / "docs.txt", "The documentation, any Python; made by `make lock-docs`.", pins)


if __name__ == "__main__":
    docs() if sys.argv[1:] == ["docs"] else main()
