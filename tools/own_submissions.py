"""The studies of docs/results as submissions: python tools/own_submissions.py FOLDER.

Each study that keeps its records becomes FOLDER/STUDY.clbench.zip, as clbench pack makes it.
``make board`` makes a site of them, and of whatever other submissions lie in the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from clbench.errors import ClbenchError
from clbench.submission import pack
from clbench.submission.submission import SUFFIX

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
AUTHORS = ["the authors of clbench"]
#: That of the repository, in which the records lie.
LICENSE = "Apache-2.0"


def studies() -> list[Path]:
    """The folders of the studies that keep their records."""
    return sorted(path.parent for path in RESULTS.glob("*/records"))


def pack_all(folder: Path) -> list[Path]:
    """Pack every study; returns the files."""
    made = []
    for study in studies():
        heading = (study / "README.md").read_text("utf-8").splitlines()[0]
        path = folder / f"{study.name}{SUFFIX}"
        submission = pack(
            [study / "records"], path, heading.removeprefix("# "), AUTHORS, license=LICENSE
        )
        size = path.stat().st_size / 1e6
        print(f"{path}: {len(submission.runs)} runs, {size:.1f} MB", flush=True)
        made.append(path)
    return made


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/own_submissions.py FOLDER")
    try:
        pack_all(Path(sys.argv[1]))
    except ClbenchError as error:
        sys.exit(f"error: {error}")
