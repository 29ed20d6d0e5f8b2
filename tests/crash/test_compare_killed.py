"""``clbench compare`` is ended at any moment: no process is left, and the same command goes on."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import yaml
from helpers import RECIPE

MOMENTS = 20
SIGNS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MARK = "CLBENCH_TEST_MARK"
METHODS = {"plain": {}, "sfa": {"sfa": {"p": 0.5}}, "replay": {"replay": {"fraction": 0.25}}}


class Comparison:
    """A command that is started again and again.

    Args:
        place: an empty folder for all of it.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.mark = place, uuid.uuid4().hex
        base = RECIPE | {"data_dir": str(place / "data")}
        suite = {"base": base, "methods": METHODS, "seeds": [0]}
        (place / "suite.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))

    def start(self, output: str) -> subprocess.Popen:
        words = ["compare", self.place / "suite.yaml", "--jobs", "2"]
        return subprocess.Popen(
            [sys.executable, "-m", "clbench", *map(str, words), "--output", self.place / output],
            stdout=(self.place / f"{output}.log").open("ab"),
            stderr=subprocess.STDOUT,
            env=os.environ | {MARK: self.mark, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def processes(self) -> list[str]:
        """What runs now and comes from one of these commands."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (path / "environ").read_bytes():
                    found.append(path.name + (path / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    def tables(self, output: str) -> dict[str, list[dict[str, str]]]:
        """The report's tables, without what is measured with a clock."""
        made = {}
        for path in sorted((self.place / output / "report").glob("*.csv")):
            with path.open() as file:
                rows = list(csv.DictReader(file))
            made[path.name] = [
                {k: v for k, v in row.items() if "seconds" not in k and k != "environment"}
                for row in rows
            ]
        assert {"leaderboard.csv", "runs.csv"} <= made.keys()
        return made


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
def test_no_process_is_left_and_the_report_is_the_same(tmp_path):
    made = Comparison(tmp_path)
    assert made.start("first").wait() == 0, (tmp_path / "first.log").read_text()  # caches
    began = time.monotonic()
    assert made.start("whole").wait() == 0
    whole, took = made.tables("whole"), time.monotonic() - began
    moments = [(number + 0.5) / MOMENTS * took for number in range(MOMENTS)]
    random.Random(0).shuffle(moments)
    number, ended = 0, 0
    while ended < MOMENTS:
        process, sign = made.start(f"cut{number}"), SIGNS[ended % len(SIGNS)]
        try:
            code = process.wait(moments[ended])
        except subprocess.TimeoutExpired:
            process.send_signal(sign)
            code = process.wait(30)
            end = time.monotonic() + 10
            while left := made.processes():
                assert time.monotonic() < end, (sign, moments[ended], left)
                time.sleep(0.05)
            print(f"{sign.name} after {moments[ended]:.1f} s: exit {code}", flush=True)
            ended += 1
        else:  # it was through before the moment came: anew, and earlier
            assert code == 0, (tmp_path / f"cut{number}.log").read_text()
            assert made.tables(f"cut{number}") == whole
            moments[ended] /= 2
            number += 1
    assert made.start(f"cut{number}").wait() == 0, (tmp_path / f"cut{number}.log").read_text()
    assert made.tables(f"cut{number}") == whole
    assert "Traceback" not in (tmp_path / f"cut{number}.log").read_text()
