"""What SLURM is asked, and the list of a suite's jobs that outlives the process which made them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from clbench.errors import ClbenchError
from clbench.files.disk import write_atomic
from clbench.record.reading import json_of

#: Jobs of an array where SLURM does not say how many it takes: its default.
ARRAY = 1001


def states(*which: str) -> dict[str, str] | None:
    """States of this user's jobs that are not over, by their ids; None if SLURM does not answer.

    Args:
        *which: options of squeue, such as ``--name``.
    """
    said = _ask("squeue", "--me", "--noheader", "--array", "--format=%i|%T", *which)
    if said is None:
        return None
    lines = [line.strip().split("|") for line in said.splitlines() if "|" in line]
    return {line[0]: line[1] for line in lines}


def longest_array() -> int:
    """How many jobs an array may have."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "", re.M)
    return max(1, int(found[1])) if found else ARRAY


def cancel(jobs: Iterable[str]) -> None:
    """Take jobs out of the queue, as far as they are there."""
    subprocess.run(["scancel", *jobs], check=False)


def cancel_all(folder: Path, jobs: Collection[str]) -> None:
    """Take all jobs of a folder out of the queue, and off its list."""
    if jobs:
        cancel(jobs)
        write_book(folder, {})


def read_book(folder: Path) -> dict[str, str]:
    """SLURM's ids of the jobs of a folder, by the names of the runs.

    Raises:
        ClbenchError: if the file is not what :func:`write_book` wrote.
    """
    path = folder / "jobs.json"
    if not path.exists():
        return {}
    values = json_of(path)
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise ClbenchError(f"{path} is no list of jobs: cancel what is queued, and remove it")
    return values


def write_book(folder: Path, jobs: Mapping[str, str]) -> None:
    """Keep the ids of jobs, by the names of the runs."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "jobs.json", json.dumps(jobs, indent=1))


def _ask(*words: str) -> str | None:
    """What a program of SLURM says; None if it fails."""
    try:
        done = subprocess.run(
            words, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
