"""`clbench report` of 200 records: the command in under 10 s, the page open in under 2 s.

    python benchmarks/report.py

The records are the kept ones of docs/results, some of them once more under other seeds. Whole
processes are timed, start-up included; the browser's start on an empty page is taken off. The
second part needs Chromium.
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

RECORDS, BUILD, OPEN, ROUNDS = 200, 10.0, 2.0, 3
RESULTS = Path(__file__).parents[1] / "docs" / "results"


def copy_records(folder: Path) -> None:
    """Fill a folder with :data:`RECORDS` run folders."""
    kept = sorted(path.parent for path in RESULTS.glob("*/records/**/record.jsonl"))
    for number, run in zip(range(RECORDS), itertools.cycle(kept), strict=False):
        target = folder / f"{number}-{run.name}"
        shutil.copytree(run, target)
        seeds = 10 * (number // len(kept))
        events = [json.loads(line) for line in (run / "record.jsonl").read_text().splitlines()]
        config = yaml.safe_load((run / "config.yaml").read_text())
        for settings in (events[0], config):
            settings["seed"] += seeds
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (target / "record.jsonl").write_text(lines)
        (target / "config.yaml").write_text(yaml.safe_dump(config))


def seconds(*words: str) -> float:
    """How long a command takes."""
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - began


def median(*words: str) -> float:
    """The median of :data:`ROUNDS` times."""
    return statistics.median(seconds(*words) for _ in range(ROUNDS))


def verdict(what: str, found: float, goal: float) -> bool:
    """Print a line; returns whether the goal is reached."""
    holds = found <= goal
    print(f"{what}: {found:.1f} s (goal: {goal:g} s) {'holds' if holds else 'MISSED'}", flush=True)
    return holds


def main() -> int:
    """The exit code: 1 if a goal is missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_records(folder / "runs")
        words = ["-m", "clbench", "report", str(folder / "runs"), "--output", str(folder / "out")]
        good = verdict(f"{RECORDS} records reported", median(sys.executable, *words), BUILD)
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        if browser is None:
            print("no Chromium: opening the page is not timed")
            return 0 if good else 1
        (folder / "empty.html").write_text("<!doctype html><title>empty</title>")
        start = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        start.append(f"--user-data-dir={folder / 'profile'}")
        empty = median(*start, (folder / "empty.html").as_uri())
        page = median(*start, (folder / "out" / "report.html").as_uri())
        return 0 if verdict("opened in Chromium", page - empty, OPEN) and good else 1


if __name__ == "__main__":
    sys.exit(main())
