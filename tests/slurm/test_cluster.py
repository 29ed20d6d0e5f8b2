"""A suite on a real SLURM of two nodes on this machine: `cluster.sh` says what it needs.

pytest -m slow tests/slurm
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers import RECIPE, comparable
from plugins import LEASH

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("sbatch", "srun", "slurmctld", "slurmd", "munged"))),
        reason="SLURM is not installed",
    ),
]
SCRIPT = Path(__file__).parent / "cluster.sh"
#: Seconds that a state may be waited for; a machine that does other work is slow.
PATIENCE = 1800


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Environment variables of a cluster that is up."""
    folder = tmp_path_factory.mktemp("cluster")
    subprocess.run([SCRIPT, "start", folder], check=True, timeout=120)
    try:
        yield os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PYTHONPATH": str(SCRIPT.parent.parent.parent),
            "OMP_NUM_THREADS": "1",
        }
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=60)


@pytest.fixture
def compare(cluster):
    """Starts `clbench compare` in a process of its own."""
    started = []

    def start(suite, folder, *words):
        folder.mkdir()
        (folder / "leash.py").write_text(LEASH)
        (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
        command = [sys.executable, "-m", "clbench", "compare", "suite.yaml", "--output", "out"]
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(
                [*command, *words], cwd=folder, env=cluster, stdout=said, stderr=said
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait()


def ask(environment, *words):
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    print("$", *words, f"\n{done.stdout.rstrip()}", flush=True)
    return done.stdout


def job_of(folder, method, environment):
    """What SLURM says about the job of a run, as a mapping."""
    book = json.loads((folder / "out/slurm/jobs.json").read_text())
    (number,) = [number for name, number in book.items() if name.startswith(f"{method}-")]
    words = ["scontrol", "--oneliner", "show", "job", number]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    pairs = [word.split("=", 1) for word in done.stdout.split() if "=" in word]
    return {"number": number} | dict(reversed(pairs))


def wait_for(happened, process):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if happened():
            return
        assert process.poll() is None
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def hold(folder, method, process):
    """Stop a run's process after its first task, however fast the machine is."""
    (run,) = (folder / "out/runs").glob(f"{method}-*")
    wait_for(lambda: list(run.glob("checkpoints/task_*.pt")), process)
    place_of = str(Path("out/runs") / run.name)
    for place in Path("/proc").glob("[0-9]*"):
        line = (place / "cmdline").read_bytes().decode().split("\0")[1:-1]
        ours = line[:3] == ["-m", "clbench", "train"] and place_of in line
        if ours and os.readlink(place / "cwd") == str(folder):
            os.kill(int(place.name), signal.SIGSTOP)
            return
    raise AssertionError("the run is over")


def outcomes(folder):
    from clbench.record.record import Record

    runs = sorted((folder / "out/runs").iterdir())
    return {
        run.name: (comparable(Record.load(run)), (run / "model.safetensors").read_bytes())
        for run in runs
    }


def test_a_preempted_and_a_timed_out_run_end_like_those_of_a_local_suite(
    cluster, compare, data_dir, tmp_path
):
    """One of them with a method of a user's own, in a file beside the suite."""
    suite = {
        "base": RECIPE | {"data_dir": str(data_dir), "steps": 300},
        "plugins": ["leash.py"],
        "methods": {"sfa": {"sfa": {"p": 0.5}}, "leash": {"leash": {}}},
        "seeds": [0],
    }
    local = compare(suite, tmp_path / "local", "--jobs", "2")
    there = tmp_path / "slurm"
    process = compare(suite, there, "--launcher", "slurm", "--slurm.timeout_min", "30")
    wait_for((there / "out/slurm/jobs.json").exists, process)
    ask(cluster, "squeue")
    hold(there, "sfa", process)
    hold(there, "leash", process)
    # A job of higher priority takes the node of one run …
    node = job_of(there, "sfa", cluster)["BatchHost"]
    ask(cluster, "sbatch", "-p", "urgent", "-w", node, "-o", "/dev/null", "--wrap", "sleep 5")
    # … and the time of the other one is nearly up.
    job = job_of(there, "leash", cluster)
    hours, minutes, _ = map(int, job["RunTime"].split(":"))
    limit = f"TimeLimit={60 * hours + minutes + 1}"
    ask(cluster, "scontrol", "update", f"JobId={job['number']}", limit)
    for method in ("sfa", "leash"):
        wait_for(lambda m=method: job_of(there, m, cluster)["Restarts"] == "1", process)
    ask(cluster, "squeue")
    ask(cluster, "scontrol", "update", f"JobId={job['number']}", "TimeLimit=30")
    assert process.wait(PATIENCE) == 0, (there / "said").read_text()
    print((there / "said").read_text())
    assert local.wait(PATIENCE) == 0
    for log in sorted((there / "out/logs").iterdir()):
        assert "Resuming after task" in log.read_text(), log
    assert outcomes(there) == outcomes(tmp_path / "local")


def test_a_run_that_gets_nowhere_is_given_up(compare, data_dir, tmp_path):
    suite = {
        "base": RECIPE | {"data_dir": str(data_dir), "steps": 10**7},
        "methods": {"sequential": {}},
        "seeds": [0],
    }
    limits = ["--slurm.timeout_min", "1", "--slurm.signal_delay_s", "20"]
    process = compare(suite, tmp_path / "slurm", "--launcher", "slurm", *limits)
    process.wait(PATIENCE)
    said = (tmp_path / "slurm/said").read_text()
    print(said)
    reason = "no task was finished within 2 time limits of 1 min each: raise --slurm.timeout_min"
    assert reason in said
    (log,) = (tmp_path / "slurm/out/slurm").glob("*_0_log.err")
    assert log.read_text().count("Caught signal SIGUSR2") == 2
