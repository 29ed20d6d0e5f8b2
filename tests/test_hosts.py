"""Two hosts compute what one process does, end together, and need not share the run folder.

The hosts are network namespaces (hosts.py); without GLOO_SOCKET_IFNAME, as nobody knows of it.
"""

import json
import shutil
import time
from pathlib import Path

import ddp_runs
import pytest
import yaml
from hosts import srun, torchrun, two_hosts, why_not
from test_ddp import CASES, assert_equal, on, recipes

import clbench
from clbench.record.record import Record

HERE = Path(__file__).parent
#: Starting may take long on a machine that does other work.
START = 600

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "two hosts")


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))
    with two_hosts(tmp_path / "hosts") as made:
        yield made


def outputs(processes, timeout=START):
    deadline = time.monotonic() + timeout
    return [p.communicate(timeout=max(1, deadline - time.monotonic()))[0] for p in processes]


def test_two_hosts_equal_one_process_and_go_on_with_its_run(
    hosts, data_dir, tmp_path, monkeypatch, no_pictures
):
    recipe = dict(recipes(data_dir))["sfa"] | {"steps": 4, "eval_every": None, "retention": {}}
    monkeypatch.setattr("clbench.record.checkpoints.save", ddp_runs.save_and_copy)
    clbench.run(on(recipe, 1), tmp_path / "one")
    shutil.copytree(tmp_path / "one-cut", tmp_path / "one_two")
    jobs = [{"recipe": recipe, "folder": str(tmp_path / "two")}]
    jobs += [{"recipe": recipe, "folder": str(tmp_path / "one_two"), "resume": True}]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    started = srun(hosts, HERE / "ddp_runs.py", tmp_path / "jobs.json")
    told = outputs(started)
    assert [process.returncode for process in started] == [0, 0], told
    assert told[1] == ""
    shutil.copytree(tmp_path / "two-cut", tmp_path / "two_one")
    clbench.run(on(recipe, 1), tmp_path / "two_one", resume=True)
    ways = {"two": [2, 2, 2], "one_two": [1, 1, 2], "two_one": [2, 2, 1]}
    for name, processes in ways.items():
        assert_equal(tmp_path / "one", tmp_path / name)
        assert [task.processes for task in Record.load(tmp_path / name).tasks] == processes


@pytest.mark.slow
def test_torchrun_with_two_processes_on_each_of_two_hosts(
    hosts, data_dir, tmp_path, monkeypatch, no_pictures
):
    """The second host does not see the run folder, and has data of its own."""
    chosen = {name: r for name, r in recipes(data_dir) if name in ("flow", "stream", "der_pp")}
    assert chosen.keys() <= CASES.keys()
    (tmp_path / "four").mkdir()
    jobs = []
    for name, recipe in chosen.items():
        clbench.run(on(recipe, 1), tmp_path / "one" / name)
        jobs.append({"recipe": recipe, "folder": str(tmp_path / "four" / name)})
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    words = [HERE / "ddp_runs.py", tmp_path / "jobs.json"]
    started = torchrun(hosts, *words, processes=2, hides=("", tmp_path / "four"))
    told = outputs(started, 3 * START)
    assert [process.returncode for process in started] == [0, 0], told
    for name in chosen:
        assert_equal(tmp_path / "one" / name, tmp_path / "four" / name)
        assert {task.processes for task in Record.load(tmp_path / "four" / name).tasks} == {4}


def begin(hosts, recipe, place, launch=srun, **more):
    """A long run on both hosts, of which a task is finished."""
    (place / "runs").mkdir(exist_ok=True)
    (place / "config.yaml").write_text(yaml.safe_dump(recipe))
    folder = place / "runs" / "run"
    words = [HERE.parent / "train.py", "--config", place / "config.yaml", "--output", folder]
    started = launch(hosts, *words, **more)
    deadline = time.monotonic() + START
    while not (folder / "checkpoints" / "task_001.pt").exists():
        assert all(process.poll() is None for process in started), outputs(started)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return started, folder


def lines(output):
    return [row for row in output.splitlines() if row.startswith(("error: ", "Stopped; "))]


@pytest.mark.slow
@pytest.mark.parametrize("launch", [srun, torchrun])
@pytest.mark.parametrize("lost", [0, 1], ids=["the first host", "the second host"])
@pytest.mark.parametrize("silent", [False, True], ids=["killed", "off the network"])
def test_a_host_that_is_lost_ends_the_run_on_the_other(
    hosts, recipe, tmp_path, no_pictures, launch, lost, silent
):
    long = recipe | {"per_task": {"6, 7": {"steps": 10**6}}}
    started, folder = begin(hosts, long, tmp_path, launch)
    began = time.monotonic()
    if silent:
        hosts[lost].unplug()
    hosts[lost].kill()
    (output,) = outputs([started[1 - lost]])
    # Closed connections tell at once; silence is believed after a minute.
    assert time.monotonic() - began < (150 if silent else 60)
    assert len(lines(output)) == 1
    assert lines(output)[0].startswith(f"error: process {lost} of 2 is gone")
    assert started[1 - lost].returncode == (2 if launch is srun else 1)
    (place,) = [Record.load(folder)]
    assert len(place.tasks) == 1


@pytest.mark.slow
def test_a_run_goes_on_only_where_every_host_has_its_checkpoint(hosts, recipe, tmp_path):
    started, folder = begin(hosts, recipe | {"steps": 200}, tmp_path, hides=("", tmp_path / "runs"))
    hosts[1].kill()
    assert lines(outputs(started)[0])
    words = [HERE.parent / "train.py", "--resume", "--output", folder]
    words += ["--config", tmp_path / "config.yaml"]
    told = outputs(srun(hosts, *words, hides=("", tmp_path / "runs")))
    assert lines(told[0]) == [
        "error: process 1 of 2, on host two, does not have the checkpoint that the first one has, "
        "on host one: give every host the same files, best on a file system that they share"
    ]
    assert told[1] == ""
    started = srun(hosts, *words)
    assert "Resuming after task" in outputs(started)[0]
    assert Record.load(folder).finished
