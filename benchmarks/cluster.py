"""`clbench compare --launcher slurm` of 100, 300 and 1,000 runs: what one costs the launcher.

    PYTHONPATH=. python benchmarks/cluster.py    on 32 simulated nodes, 10 minutes a run

Time is that of the processor, of the launcher alone: from the suite's page to the last job, through
submissions, failures, preemptions and requeues; SLURM, its clock and the runs are simulated
(tests/simulated.py). Each size has a process of its own, as its peak of memory counts. Goal:
at 1,000 runs, a run costs at most 1.25 x the time and the memory that it costs at 100 to 300.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
SIZES, WIDTH, SECONDS, GOAL = (100, 300, 1000), 32, 600.0, 1.25


def peak() -> float:
    """MB of memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def day(runs: int) -> dict[str, float]:
    """Run a suite on a simulated cluster; seconds, by part, and MB beside what imports take."""
    sys.path[:0] = [str(TESTS)]
    from helpers import RECIPE
    from simulated import Cluster

    from clbench.launch import slurm
    from clbench.suite import comparison

    comparison.compare_runs = lambda *_, **__: None  # reports have a benchmark of their own
    comparison.build = lambda *_: None
    methods = {f"p = 0.{50 + number}": {"sfa": {"p": 0.5 + number / 100}} for number in range(20)}
    suite = {"base": RECIPE, "methods": methods, "seeds": list(range(runs // 20))}
    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(Path(name) / "cluster", WIDTH, SECONDS)
        os.environ["PATH"] = f"{cluster.bin}:{os.environ['PATH']}"
        before, began = peak(), time.process_time()
        slurm.time = cluster
        made = comparison.load(suite)
        planned = time.process_time() - began
        comparison.compare(made, Path(name) / "out", WIDTH, launcher="slurm")
        whole = time.process_time() - began - cluster.own
        return {
            "plan": planned,
            "whole": whole,
            "memory": peak() - before,
            "hours": cluster.now / 3600,
            "starts": len(cluster.history),
        }


def measure(runs: int) -> dict[str, float]:
    """The same, in a process of its own."""
    command = [sys.executable, __file__, str(runs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """The exit code: 1 if a goal is missed."""
    found = {}
    for runs in SIZES:
        found[runs] = made = measure(runs)
        print(
            f"{runs:>5} runs, {made['starts']:.0f} starts in {made['hours']:.1f} h: "
            f"{made['whole']:.1f} s of the launcher, {1e3 * made['whole'] / runs:.0f} ms a run "
            f"(planned in {1e3 * made['plan'] / runs:.1f}); {made['memory']:.0f} MB",
            flush=True,
        )
    few, some, many = SIZES
    times = found[many]["whole"] / many / (found[few]["whole"] / few)
    more = found[some]["memory"] - found[few]["memory"], found[many]["memory"]
    growth = (more[1] - found[some]["memory"]) / (many - some) / max(0.01, more[0] / (some - few))
    good = True
    for what, ratio in (("time a run", times), ("memory a further run", growth)):
        good = good and ratio <= GOAL
        print(f"{what}: {ratio:.2f} x (goal: {GOAL} x) {'holds' if ratio <= GOAL else 'MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("runs", nargs="?", type=int, help="one size alone, as JSON; default: all")
    size = parser.parse_args().runs
    if size is None:
        sys.exit(main())
    print(json.dumps(day(size)))
