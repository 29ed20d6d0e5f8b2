"""Processes that ``clbench compare`` starts do not outlive it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from clbench.launch.local import Job, launch
from clbench.processes.parent import VARIABLE

#: A run that has a process of its own, as with DDP; both say who they are.
RUN = """
import os, subprocess, sys, time
from clbench.processes.parent import follow_stdin
follow_stdin()
if len(sys.argv) == 2:
    subprocess.Popen([sys.executable, __file__, sys.argv[1], "inner"])
open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
time.sleep(60)
"""
LAUNCH = """
import sys
from pathlib import Path
from clbench.launch.local import Job, launch
place = Path(sys.argv[1])
jobs = [Job(n, [sys.executable, sys.argv[2], sys.argv[1]], place.parent / n) for n in "ab"]
launch(jobs, 2, lambda job: None)
"""


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_is_left_behind(tmp_path, sign):
    place, script = tmp_path / "pids", tmp_path / "run.py"
    place.mkdir()
    script.write_text(RUN)
    parent = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(place), str(script)],
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(list(place.iterdir())) == 4)
    parent.send_signal(sign)
    assert parent.wait(20)
    wait_until(lambda: all(gone(path.name) for path in place.iterdir()), 5)


def test_a_run_that_does_not_stop_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("clbench.launch.local.STOP", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"{deaf}; print(1, flush=True); time.sleep(60)"
    job = Job("a", [sys.executable, "-c", code], tmp_path / "log")

    def stop_when_deaf(_):
        if job.log.exists() and job.log.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch([job], 1, stop_when_deaf)
    assert job.process.poll() == -signal.SIGKILL


def test_a_log_that_is_gone_ends_no_other_run(tmp_path):
    log = tmp_path / "logs" / "a"
    code = f"import os, sys; os.remove({str(log)!r}); sys.exit(3)"
    jobs = [Job("a", [sys.executable, "-c", code], log)]
    jobs += [Job("b", [sys.executable, "-c", ""], tmp_path / "logs" / "b")]
    launch(jobs, 2, lambda _: None)
    assert [job.state for job in jobs] == ["failed", "finished"]
    assert jobs[0].reason == f"exit code 3 (see {log})"


def test_standard_input_that_is_no_pipe_is_left_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from clbench.processes.parent import follow_stdin; import time; "
         "follow_stdin(); time.sleep(0.2); print('there')"],
        stdin=subprocess.DEVNULL, env=os.environ | {VARIABLE: "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "there\n"
