"""A run that is killed goes on, and ends as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from helpers import RECIPE, comparable
from records import run_event

import clbench
from clbench.recipe.merging import merge
from clbench.record.record import Record

TRAIN = Path(__file__).parent.parent / "train.py"


def start(recipe, folder, tmp_path, *words):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(recipe))
    command = [sys.executable, TRAIN, "--config", config, "--output", folder, *words]
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        # Where the tests run in the background of a shell, Ctrl-C is ignored; that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def wait_for_tasks(folder, count, process):
    deadline = time.monotonic() + 240
    record = folder / "record.jsonl"
    while process.poll() is None and time.monotonic() < deadline:
        if record.exists() and record.read_text().count('"event": "task"') >= count:
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate()[0])


def outcome(folder):
    return comparable(Record.load(folder)), (folder / "model.safetensors").read_bytes()


def made_long(recipe):
    return recipe | {"methods": {"sfa": {"p": 0.5}}, "steps": 60, "eval_every": 10}


@pytest.fixture
def long(recipe):
    return made_long(recipe)


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """What such a run comes to in a process that nothing ends."""
    folder = tmp_path_factory.mktemp("resume") / "whole"
    clbench.run(made_long(RECIPE | {"data_dir": str(data_dir)}), folder)
    return outcome(folder)


@pytest.mark.parametrize("tasks", [0, 1, 2])
def test_after_sigkill(long, whole, tmp_path, capsys, tasks):
    process = start(long, tmp_path / "cut", tmp_path)
    wait_for_tasks(tmp_path / "cut", tasks, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "cut" / "summary.json").exists()
    record = clbench.run(long, tmp_path / "cut", resume=True)
    if tasks == 2:
        assert "Resuming after task" in capsys.readouterr().out
    assert outcome(tmp_path / "cut") == whole
    assert [event.last_step for event in record.tasks] == [60, 120, 180]


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(long, tmp_path):
    process = start(long | {"steps": 2000}, tmp_path / "run", tmp_path)
    wait_for_tasks(tmp_path / "run", 1, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert f"--resume --output {tmp_path / 'run'}" in output


def test_a_half_written_line_is_passed_over(tmp_path):
    (tmp_path / "record.jsonl").write_text(run_event().text + '{"event": "ta')
    assert [event.event for event in Record.load(tmp_path).events] == ["run"]


def test_a_record_whose_first_line_is_half_written_begins_anew(recipe, tmp_path, no_pictures):
    recipe = merge(recipe, {"stream": {"first_tasks": 1}, "steps": 1})
    clbench.run(recipe, tmp_path / "whole")
    whole = (tmp_path / "whole" / "record.jsonl").read_bytes()
    cut = tmp_path / "cut"
    cut.mkdir()
    shutil.copy(tmp_path / "whole" / "config.yaml", cut)
    for written in (b"", whole[:100]):
        (cut / "record.jsonl").write_bytes(written)
        record = clbench.run(recipe, cut, resume=True)
        assert comparable(record) == comparable(Record.load(tmp_path / "whole"))
        shutil.rmtree(cut / "checkpoints")


def test_resuming_a_finished_run_changes_nothing(long, tmp_path):
    long["steps"] = 3
    clbench.run(long, tmp_path / "run")
    before = (tmp_path / "run" / "record.jsonl").read_bytes()
    output = finish(start(long, tmp_path / "run", tmp_path, "--resume"))
    assert "already finished" in output
    assert (tmp_path / "run" / "record.jsonl").read_bytes() == before
