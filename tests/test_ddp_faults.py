"""Whatever happens to one process of a run, the others end soon, with one line, and --resume."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers import comparable

import clbench
from clbench.record.record import Record

HERE = Path(__file__).parent
PREPARATION, STEP = (
    "clbench.recipe.recipe:Recipe.build_stream,1",
    "clbench.learner.learner:Learner.training_step",
)
LOST = "error: process 1 of 2 was ended by SIGKILL"
TOLD = "error: x.jpg cannot be read: remove it"
#: Name: the fault, the exit code, the line, and whether the first task was finished before.
FAULTS = {
    "import": ("1,start,1,SIGKILL", 2, LOST, False),
    "preparation": (f"1,{PREPARATION},SIGKILL", 2, LOST, False),
    "preparation says why": (f"1,{PREPARATION},error", 2, TOLD, False),
    "step": (f"1,{STEP},11,SIGKILL", 2, LOST, True),
    "step says why": (f"1,{STEP},11,error", 2, TOLD, True),
    "a bug": (f"1,{STEP},11,bug", 2, "error: process 1 of 2 failed: RuntimeError: odd", True),
    "evaluation": ("1,clbench.measure.evaluate:Evaluator._forward,9,SIGKILL", 2, LOST, True),
    "probe": ("1,clbench.runner.network:Network.probe,2,SIGKILL", 2, LOST, True),
    "first: preparation hangs": (
        f"0,{PREPARATION},hang",
        2,
        "error: of 2 processes, one is not ready to train 40 s after process 1",
        False,
    ),
    "first: preparation": (f"0,{PREPARATION},SIGKILL", -9, "error: process 0", False),
    "first: preparation says why": (f"0,{PREPARATION},error", 2, TOLD, False),
    "first: step": (f"0,{STEP},11,SIGKILL", -9, "error: process 0 of 2 is gone", True),
    "first: step says why": (f"0,{STEP},11,error", 2, TOLD, True),
    "first: checkpoint": (
        "0,clbench.record.checkpoints:save,2,SIGKILL",
        -9,
        "error: process 0",
        True,
    ),
    "first: Ctrl-C": (f"0,{STEP},11,SIGINT", 130, "Stopped", True),
    "first: SIGTERM": (f"0,{STEP},11,SIGTERM", 143, "Stopped", True),
    "Ctrl-C": (f"1,{STEP},11,SIGINT", 130, "Stopped", True),
    "hang": (f"1,{STEP},11,hang", 2, "error: process 0 of 2 lost the others or waited", True),
}
QUICK = ("step",)


def start(recipe, folder, fault, words=(sys.executable,)):
    """Two processes, of which one gets into trouble; their output, and how they ended."""
    config = folder.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(recipe))
    environment = os.environ | {"FAULT": fault, "FOLDER": str(folder)}
    process = subprocess.Popen(
        [*words, HERE / "ddp_faults.py", "--config", config, "--output", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        output, _ = process.communicate(timeout=200)  # ends when no process holds the pipe
    finally:
        process.kill()
    return output, process.returncode


def left(folder):
    """Processes that are still there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"FOLDER={folder}\0" in entry.read_text():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


@pytest.fixture
def two(recipe):
    more = {"devices": 2}
    recipe["model"] |= {"head": "linear_probe"}
    return recipe | {"steps": 8, "batch_size": 31, "trainer": recipe["trainer"] | more}


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FAULTS]
)
def test_a_process_in_trouble_ends_all_with_one_line(two, tmp_path, no_pictures, name):
    fault, code, line, begun = FAULTS[name]
    if FAULTS[name][0].endswith("hang"):
        two["process_timeout"] = 40.0
    output, ended = start(two, tmp_path / "run", fault)
    assert ended == code, output
    assert sum(row.startswith(("error: ", "Stopped; ")) for row in output.splitlines()) <= 1
    assert line in output
    assert "gloo" not in output
    if name != "a bug":
        assert "Traceback" not in output
    time.sleep(0.5)
    assert left(tmp_path / "run") == []
    if not (tmp_path / "run" / "record.jsonl").exists():
        return
    # Another number of processes goes on: the end is that of a run that nothing happened to.
    alone = two | {"trainer": two["trainer"] | {"devices": 1}}
    record = clbench.run(alone, tmp_path / "run", resume=True)
    whole = clbench.run(alone, tmp_path / "whole")
    assert Record.load(tmp_path / "run").tasks[0].processes == 1 + begun
    for scenario in ("task_incremental", "class_incremental"):
        assert comparable(record)[scenario]["overall_performance"] == pytest.approx(
            comparable(whole)[scenario]["overall_performance"], abs=0.03
        )


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["preparation says why", "step", "first: step"])
def test_under_torchrun(two, tmp_path, name):
    fault, _, line, _ = FAULTS[name]
    del two["trainer"]["devices"]
    output, code = start(two, tmp_path / "run", fault, TORCHRUN)
    assert code == 1  # torchrun's own
    told = [row for row in output.splitlines() if row.startswith("error: ")]
    assert len(told) == 1
    assert told[0].startswith(line.replace("was ended by SIGKILL", "is gone"))
    assert left(tmp_path / "run") == []


@pytest.mark.slow
def test_torchrun_needs_neither_devices_nor_a_folder(two, tmp_path):
    del two["trainer"]["devices"]
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(two | {"name": "here"}))
    words = [*TORCHRUN, HERE.parent / "train.py", "--config", config]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["here"]
    assert [task.processes for task in Record.load(tmp_path / "runs" / "here").tasks] == [2] * 3


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(0, 1), (0,), (1,)])
def test_under_srun(two, tmp_path, ranks):
    """What srun tells its processes; of some, one does not come."""
    del two["trainer"]["devices"]
    config = tmp_path / "config.yaml"
    limit = 1800.0 if len(ranks) == 2 else 20.0
    config.write_text(yaml.safe_dump(two | {"name": "here", "process_timeout": limit}))
    variables = {"NTASKS": 2, "NTASKS_PER_NODE": 2, "NNODES": 1, "NODEID": 0, "JOB_NAME": "clbench"}
    variables |= {"STEP_ID": 0, "JOB_ID": 4711 + os.getpid() % 5000, "NODELIST": "localhost"}
    processes = []
    for rank in ranks:
        mine = variables | {"PROCID": rank, "LOCALID": rank}
        environment = os.environ | {f"SLURM_{name}": str(value) for name, value in mine.items()}
        words = [sys.executable, HERE.parent / "train.py", "--config", config]
        processes.append(
            subprocess.Popen(
                words,
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    codes = [process.returncode for process in processes]
    if len(ranks) == 2:
        assert codes == [0, 0], outputs
        assert outputs[1] == ""
        assert len(list((tmp_path / "runs").iterdir())) == 1
    else:
        assert codes == [2]
        line = "1 did not come within" if ranks == (0,) else "found no first process"
        assert line in outputs[0]
