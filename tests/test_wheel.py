"""From a wheel, in an empty folder: a method of one's own goes wherever clbench's go."""

import os
import signal
import subprocess
import time

import pytest
from packaged import outside

SUITE = """\
plugins: [leash.py]
base:
  stream: {name: split_digits, train_per_class: 30, test_per_class: 10}
  images: {size: 8}
  model: {backbone: tiny_cnn, weights: none, options: {width: 8}}
  steps: 20
  trainer: {enable_progress_bar: false, accelerator: cpu}
  checkpoints: all
methods:
  mine: {leash: {pull: 0.1}}
  averaged: {leash: {}, wise_ft: {alpha: 0.5}}
  sfa: {sfa: {p: 0.5}}
grid:
  mine: {methods.leash.pull: [0.2]}
seeds: [0, 1]
"""


@pytest.fixture
def run(installed, tmp_path):
    def start(*words, kill_once=None):
        process = subprocess.Popen(
            [installed / "clbench", *words],
            cwd=tmp_path,
            env=outside(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if kill_once is not None:
            deadline = time.monotonic() + 300
            while not list(tmp_path.glob(kill_once)) and time.monotonic() < deadline:
                time.sleep(0.1)
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait(600), process.stdout.read()

    return start


@pytest.mark.slow
def test_a_method_of_ones_own_in_a_suite_that_is_killed_and_goes_on(run, tmp_path):
    assert run("new", "method", "leash")[0] == 0
    (tmp_path / "mine.yaml").write_text(SUITE)
    compare = ["compare", "mine.yaml", "--jobs", "2"]
    assert run(*compare, "--dry_run")[0] == 0
    killed = "runs/mine/runs/*leash*/checkpoints/task_001.pt"
    code, _ = run(*compare, kill_once=killed.replace("*leash*", "mine-*"))
    assert code == -signal.SIGKILL
    code, told = run(*compare)
    assert code == 0, told
    page = (tmp_path / "runs/mine/report/report.html").read_text()
    assert "mine" in page
    assert "sfa" in page
    code, told = run(*compare)
    assert "8 runs: 8 finished before, 0 to do" in told
    (one, *_) = tmp_path.glob("runs/mine/runs/averaged-seed0-*")
    code, told = run("sweep", str(one), "--alpha", "0,1")
    assert code == 2
    assert "add --plugins" in told
    code, told = run("sweep", str(one), "--alpha", "0,1", "--plugins", "leash.py")
    assert code == 0, told


@pytest.mark.slow
def test_a_method_of_ones_own_on_two_processes(run, tmp_path):
    assert run("new", "method", "leash")[0] == 0
    (tmp_path / "mine.yaml").write_text(
        "plugins: [leash.py]\nstream: {name: split_digits, first_tasks: 2}\nimages: {size: 8}\n"
        "model: {backbone: tiny_cnn, weights: none}\nsteps: 5\nmethods: {leash: {}}\n"
        "trainer: {enable_progress_bar: false, accelerator: cpu, devices: 2}\n"
    )
    code, told = run("--config", "./mine.yaml", "--output", "run")
    assert code == 0, told
    assert "leash" in (tmp_path / "run/summary.json").read_text()
