"""What waits for no torch, and what clbench adds to the imports of a run.

    python benchmarks/startup.py

Whole processes, in turns with one that imports torch, timm and Lightning and does nothing. What
prints, and most mistakes, should take at most a quarter of that (some 1.5 s), and a run that has
read its recipe at most 1.05 times (some 0.3 s more). Seconds are of processor time, as wall time
depends on what else runs. Each starts once at first, so that Python has compiled its files.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from pairs import Pair, arguments, show

BARE = ["-c", "import torch, timm, lightning"]
#: What is said at once: words behind ``python -m clbench``, and the exit code.
EARLY: dict[str, int] = {
    "--version": 0,
    "--help": 0,
    "--list": 0,
    "--config nosuch": 2,
    "--optimizer.lrr 1": 2,
    "--methods.sfa.q 1": 2,
    "--optimizer.lr x": 2,
    "compare nosuch": 2,
    "compare digits --optimizer.lrr 1": 2,
    "sweep --help": 0,
    "sweep nosuch --alpha 0:1:0.5": 2,
    "report nosuch": 2,
    "data nosuch": 2,
}
#: Reads the recipe and imports all that a run begins with.
READ = "--print_config"


def seconds(words: Sequence[str], code: int, folder: str) -> float:
    """Processor time of a Python process and those that it has started."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=folder, env=kept
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == code, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Measure, and print the table; 1 if a goal is missed."""
    options = arguments(__doc__, rounds=5)
    with tempfile.TemporaryDirectory() as folder:
        sides = {"": (BARE, 0)} | {
            words: (["-m", "clbench", *words.split()], code)
            for words, code in (*EARLY.items(), (READ, 0))
        }
        taken: dict[str, list[float]] = {words: [] for words in sides}
        for number in range(-1, options.rounds):  # once to warm up
            for words, (command, code) in sides.items():
                found = seconds(command, code, folder)
                if number >= 0:
                    taken[words].append(found)
    bare = taken.pop("")
    pairs = [
        Pair(f"clbench {words}", ours, bare, 1, "start", 1.05 if words == READ else 0.25)
        for words, ours in taken.items()
    ]
    return show(pairs, "bare imports")


if __name__ == "__main__":
    raise SystemExit(main())
