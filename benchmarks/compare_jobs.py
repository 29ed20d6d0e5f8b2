"""`clbench compare`: 8 small runs two at a time against one at a time. Goal: at most 0.65 x.

    python benchmarks/compare_jobs.py

Whole processes are timed, start-up included. On a machine with two cores or more, else idle.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from clbench.recipe.merging import merge
from clbench.recipe.yamlfile import read
from clbench.suite.comparison import compare

SUITE = {
    "base": merge(read("default"), {"eval_every": None, "data_dir": "data"}),
    "methods": {"sequential": {}, "sfa": {"sfa": {"p": 0.9}}},
    "seeds": [0, 1, 2, 3],
}


def seconds(jobs: int) -> float:
    """How long the suite takes in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        made = compare(SUITE, Path(folder), jobs)
        assert not made.failures
        return time.perf_counter() - began


if __name__ == "__main__":
    two, one = seconds(2), seconds(1)
    print(f"--jobs 2: {two:.1f} s, --jobs 1: {one:.1f} s: {two / one:.2f} x (goal: 0.65)")
