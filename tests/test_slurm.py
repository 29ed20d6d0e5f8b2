"""The SLURM launcher without SLURM: submitit's LocalExecutor stands for the cluster."""

import os
import pickle
import signal
import sys
import time
from pathlib import Path

import pytest
import submitit

from clbench.cli import commands
from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.launch import local, slurm, slurm_job, slurm_queue
from clbench.launch.choose import choose_launcher
from clbench.launch.local import Job
from clbench.launch.slurm import Settings
from clbench.launch.slurm_job import Work

#: Stands for a run of two tasks that goes on from the newest checkpoint. `hangs`: it stops after
#: the first task until it is started again; `fails`: it fails; `endless`: it finishes no task.
RUN = """
import pathlib, sys, time
folder, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
folder.mkdir(exist_ok=True)
checkpoints = folder / "checkpoints"
print("from", len(list(checkpoints.glob("*"))), flush=True)
again = checkpoints.exists()
checkpoints.mkdir(exist_ok=True)
(folder / "started").touch()
while kind == "endless":
    time.sleep(0.1)
for number in (1, 2):
    (checkpoints / f"task_00{number}.pt").touch()
    while kind == "hangs" and not again:
        time.sleep(0.1)
if kind == "fails":
    sys.exit("error: no tasks today")
"""


@pytest.fixture
def start(tmp_path):
    """Makes a job; its log lies beside its folder."""
    (tmp_path / "run.py").write_text(RUN)

    def job(name, kind=""):
        words = [sys.executable, "-S", str(tmp_path / "run.py"), str(tmp_path / name), kind]
        return Job(name, words, tmp_path / f"{name}.log", tmp_path / name)

    return job


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """LocalExecutor, and a queue that knows the states of its processes."""
    made = []

    class Executor(submitit.LocalExecutor):
        def submit_array(self, works):
            tickets = super().submit_array(works)
            made.extend(tickets)
            return tickets

    def executor(folder, wanted, at_once):
        local = Executor(folder, max_num_timeout=slurm.UNBOUNDED)
        local.update_parameters(timeout_min=60)
        return local

    def queue(*which):
        if which:  # of those with this name; LocalExecutor gives none
            return {}
        return {t.job_id: t.state for t in made if t._process and t._process.poll() is None}

    monkeypatch.setattr(slurm, "_executor", executor)
    monkeypatch.setattr(slurm_queue, "states", queue)
    monkeypatch.setattr(slurm_queue, "longest_array", lambda: 1001)
    for name, value in {"POLL": 0.05, "ASK": 0.1, "GRACE": 0.5}.items():
        monkeypatch.setattr(slurm, name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(slurm.__file__).parent.parent))
    yield made
    for ticket in made:
        if ticket._process is not None and ticket._process.poll() is None:
            ticket._process.kill()


def run(jobs, tmp_path, **settings):
    seen = []
    wanted = Settings(**settings)
    slurm.launch_array(
        jobs, len(jobs), lambda j: seen.append(j and (j.name, j.state)), wanted, tmp_path / "slurm"
    )
    return [what for what in seen if what is not None]


def test_all_run_and_one_that_fails_does_not_stop_the_others(cluster, start, tmp_path):
    jobs = [start("good"), start("bad", "fails")]
    jobs[0].log.write_text("of an earlier call\n")
    seen = run(jobs, tmp_path)
    assert [job.state for job in jobs] == ["finished", "failed"]
    assert [job.reason for job in jobs] == ["", "no tasks today"]
    assert {("good", "finished"), ("bad", "failed")} <= set(seen)
    assert jobs[0].log.read_text() == "from 0\n"


def test_a_run_whose_time_is_up_goes_on_from_its_last_task(cluster, start, tmp_path):
    job = start("run", "hangs")

    def changed(_):
        if (job.folder / "checkpoints/task_001.pt").exists() and not told:
            told.append(children(cluster[0]._process.pid)[0])
            os.kill(told[0], signal.SIGUSR2)

    told = []
    slurm.launch_array([job], 1, changed, Settings(), tmp_path / "slurm")
    assert (job.state, job.reason) == ("finished", "")
    assert job.log.read_text().split("\n")[0] == "from 0"
    assert job.log.read_text().endswith("from 1\n")


def test_a_job_that_vanishes_is_a_failure(cluster, start, tmp_path):
    job = start("run", "endless")

    def changed(_):
        pid = cluster[0]._process.pid
        if (job.folder / "started").exists() and cluster[0]._process.poll() is None:
            family = [pid, *children(pid), *children(children(pid)[0])]
            for member in family:
                os.kill(member, signal.SIGKILL)

    slurm.launch_array([job], 1, changed, Settings(), tmp_path / "slurm")
    assert job.state == "failed"
    assert job.reason.startswith(f"SLURM job {cluster[0].job_id} ended without a result")


def children(pid):
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_jobs_of_a_call_that_was_killed_are_taken_up_again(cluster, start, tmp_path, capsys):
    job = start("run")
    works = slurm._submit([job], 1, Settings(), tmp_path / "slurm")
    again = start("run")
    slurm_queue.write_book(tmp_path / "slurm", {"run": works["run"].job_id, "other": "1"})
    run([again], tmp_path)
    assert again.state == "finished"
    assert len(cluster) == 1
    told = capsys.readouterr().out
    assert "1 runs are queued or running from before, with the --jobs and --slurm settings" in told


def test_ctrl_c_cancels(cluster, start, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(slurm_queue.subprocess, "run", lambda words, **_: told.append(words))

    def changed(what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slurm.launch_array([start("run")], 1, changed, Settings(), tmp_path / "slurm")
    assert told == [["scancel", cluster[0].job_id]]
    assert slurm_queue.read_book(tmp_path / "slurm") == {}


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), KeyboardInterrupt(signal.SIGTERM)])
def test_ctrl_c_while_jobs_are_submitted_cancels_those_that_are(start, tmp_path, monkeypatch, stop):
    """sbatch has taken them, but nobody has written down which they are."""
    told, folder = [], tmp_path / "slurm"
    monkeypatch.setattr(slurm_queue.subprocess, "run", lambda words, **_: told.append(words))
    monkeypatch.setattr(slurm_queue, "states", lambda *which: {"7_0": "PENDING"} if which else {})
    monkeypatch.setattr(slurm_queue, "longest_array", lambda: 1001)
    monkeypatch.setattr(slurm, "_cancel_unknown", lambda *_: None)

    def submit_array(self, works):
        raise stop

    monkeypatch.setattr(submitit.SlurmExecutor, "submit_array", submit_array)
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    with pytest.raises(KeyboardInterrupt):
        slurm.launch_array([start("run")], 1, print, Settings(), folder)
    assert told == ([] if stop.args else [["scancel", "7_0"]])


@pytest.mark.parametrize("end", [KeyboardInterrupt(signal.SIGTERM), BrokenPipeError(), OSError(28)])
def test_what_else_ends_it_leaves_the_jobs(cluster, start, tmp_path, monkeypatch, capsys, end):
    """SIGTERM of a login node that goes down, a reader that is gone, a full disk."""
    told = []
    monkeypatch.setattr(slurm_queue.subprocess, "run", lambda words, **_: told.append(words))

    def changed(what):
        raise end

    with pytest.raises(type(end)):
        slurm.launch_array([start("run")], 1, changed, Settings(), tmp_path / "slurm")
    assert told == []
    assert slurm_queue.read_book(tmp_path / "slurm") == {"run": cluster[0].job_id}
    assert "1 job not cancelled: the same command takes them up" in capsys.readouterr().out


def test_jobs_that_have_ended_are_not_said_to_go_on(cluster, start, tmp_path, capsys):
    def changed(job):
        if job is not None and job.state == "finished":
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        slurm.launch_array([start("run")], 1, changed, Settings(), tmp_path / "slurm")
    assert "not cancelled" not in capsys.readouterr().out


def test_work_runs_in_process_too(start, tmp_path):
    job = start("run", "fails")
    work = Work(job.words, job.log, job.folder, tmp_path, 60, 15, 3, 2)
    assert submitit.DebugExecutor(tmp_path).submit(work).result() == "no tasks today"


@pytest.mark.parametrize(
    ("minutes", "limit", "tasks", "idle"),
    [(9, 10, 0, 2), (9, 10, 1, 0), (1, 10, 0, 1), (0, 2, 0, 2)],
    ids=["idle", "busy", "evicted", "short"],
)
def test_only_whole_time_limits_without_a_task_count(tmp_path, minutes, limit, tasks, idle):
    work = Work(["true"], tmp_path / "log", tmp_path, tmp_path, limit * 60, 60, 1, 3, idle=1)
    work.began, work.newest = time.monotonic() - 60 * minutes, work._newest()
    (tmp_path / "checkpoints").mkdir()
    for number in range(tasks):
        (tmp_path / "checkpoints" / f"task_{number:03}.pt").touch()
    assert work.checkpoint().function.idle == idle
    work.patience = idle + 1 if idle == 0 else idle
    if idle == 2:
        with pytest.raises(slurm_job._GaveUp, match="within 2 time limits of"):
            work.checkpoint()


@pytest.fixture
def time_is_up(monkeypatch):
    """Sends the signal as soon as a file is there; the handler before is a function to set."""

    def when(path, handler):
        monkeypatch.setattr(slurm_job.time, "sleep", lambda _: path.exists() and send())
        signal.signal(signal.SIGUSR2, handler)

    def send():
        os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.getsignal(signal.SIGUSR2)
    yield when
    signal.signal(signal.SIGUSR2, before)


def test_a_run_that_gets_nowhere_is_given_up(start, tmp_path, time_is_up):
    job = start("run", "endless")
    work = Work(job.words, job.log, job.folder, tmp_path, 0, 0, 1, patience=1)
    time_is_up(job.folder / "started", lambda *_: work.checkpoint())
    assert work() == (
        "no task was finished within 1 time limit of 0 min each: raise --slurm.timeout_min"
    )
    assert work.process.returncode is not None


def test_sigterm_is_no_failure_of_the_run(tmp_path, time_is_up):
    code = "import os, pathlib; pathlib.Path('there').touch(); os.kill(os.getpid(), 15)"
    work = Work([sys.executable, "-c", code], tmp_path / "log", None, tmp_path, 60, 15, 1, 1)

    def requeue(*_):
        work.process.wait()
        if work.process.returncode == -signal.SIGTERM:
            raise InterruptedError("requeued")

    time_is_up(tmp_path / "there", requeue)
    with pytest.raises(InterruptedError, match="requeued"):
        work()


def test_what_sbatch_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda _: 2))
    wanted = slurm.read_settings(
        {"partition": "gpu", "gpus": 2, "cpus": 8, "mem_gb": 1.5, "timeout_min": 90}
        | {"setup": ["module load cuda"], "sbatch": {"constraint": "a100"}, "account": "me"}
    )
    executor = slurm._executor(tmp_path, wanted, 5)
    text = executor._make_submission_file_text("x", "y")
    for line in (
        "--partition=gpu",
        "--gpus-per-node=2",
        "--cpus-per-task=8",
        "--mem=1536M",
        "--time=90",
        "--account=me",
        "--constraint=a100",
        "--requeue",
        "--signal=USR2@60",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "\nmodule load cuda\n" in text
    assert executor.parameters["array_parallelism"] == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"partitoin": "gpu"}, r"slurm.partitoin \(did you mean slurm.partition\?\)"),
        ({"timeout_min": 0}, "slurm.timeout_min = 0: "),
        ({"gpus": "many"}, "slurm.gpus = 'many': "),
        ({"timeout_min": 1}, "slurm.signal_delay_s = 60: must be shorter than the time limit"),
        (
            {"sbatch": {"job-name": "x"}},
            "slurm.sbatch.job-name is the launcher's own: leave it out",
        ),
    ],
)
def test_one_clear_line_for_every_mistake(values, message):
    with pytest.raises(ClbenchError, match=message) as caught:
        slurm.read_settings(values)
    assert "\n" not in str(caught.value)


def test_launchers(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClbenchError, match="there is no launcher 'slrum': use local or slurm"):
        choose_launcher("slrum", 1, tmp_path, {})
    with pytest.raises(ClbenchError, match=r"slurm\.gpus needs --launcher slurm"):
        choose_launcher("local", 1, tmp_path, {"gpus": 1})
    with pytest.raises(ClbenchError, match="there is no SLURM here"):
        choose_launcher("slurm", 1, tmp_path, {})


def test_the_words_of_the_command_line(tmp_path, monkeypatch, capsys):
    given = {}
    monkeypatch.setattr("clbench.suite.comparison.compare", lambda *a: given.update(a=a) or Made)
    path = tmp_path / "cluster.yaml"
    path.write_text("partition: gpu\ntimeout_min: 30\n")
    words = ["--launcher", "slurm", "--slurm", str(path), "--slurm.timeout_min", "60"]
    assert main(["compare", "digits", *words, "--slurm.setup", "[a, b]"]) == 0
    assert given["a"][4:6] == (
        "slurm",
        {"partition": "gpu", "timeout_min": 60, "setup": ["a", "b"]},
    )
    assert main(["compare", "digits", "--slurm", "nowhere"]) == 2
    assert commands.command(["compare", "--help"]) == 0
    told = capsys.readouterr()
    assert "there is no file nowhere" in told.err
    assert all(f"--slurm.{name} " in told.out for name in Settings.model_fields)


class Made:
    failures = skipped = {}


def test_runs_over_several_nodes_are_not_started_here(tmp_path):
    from helpers import RECIPE

    from clbench import compare

    base = RECIPE | {"trainer": {"num_nodes": 2, "devices": 4, "strategy": "ddp"}}
    suite = {"base": base, "methods": {"sfa": {"sfa": {}}}}
    with pytest.raises(ClbenchError, match=r"trainer\.num_nodes: start it by srun"):
        compare(suite, tmp_path)


class Trap:
    """A pickle that leaves a file where it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_no_pickle_in_the_folder_is_read(tmp_path):
    ticket = submitit.core.core.Job(tmp_path, "7_0")
    ticket.paths.result_pickle.write_bytes(pickle.dumps(Trap(tmp_path / "marker")))
    ticket.paths.stderr.write_text("some words\nKilled\n")
    job = Job("run", [], tmp_path / "log")
    assert slurm._look(job, ticket, {}, {})
    assert (job.state, job.reason) == ("failed", "Killed")
    slurm_job.answer_file(tmp_path, "7_0").write_text('{"reason": ""}')
    assert slurm._look(job, ticket, {}, {})
    assert (job.state, job.reason) == ("finished", "")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (b"a\nGr\xfc\xdfe, \x1b[31mred\r\n\n", "Gr\ufffd\ufffde, \\x1b[31mred"),
        (b"x" * (local.TAIL + 9) + b"\nKilled\n", "Killed"),
        (b"", "the job ended without an answer"),
    ],
)
def test_what_a_job_printed_may_be_any_bytes(tmp_path, printed, reason):
    """One job's must not end the command, which would be the end of all."""
    ticket = submitit.core.core.Job(tmp_path, "7_0")
    ticket.paths.result_pickle.touch()
    ticket.paths.stderr.write_bytes(printed)
    job = Job("run", [], tmp_path / "log")
    assert slurm._look(job, ticket, {}, {})
    assert (job.state, job.reason) == ("failed", reason)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 10_000, '{"reason": ', "\x00"])
def test_a_broken_answer_is_a_failure_in_one_line(tmp_path, text):
    ticket = submitit.core.core.Job(tmp_path, "7_0")
    slurm_job.answer_file(tmp_path, "7_0").write_text(text)
    job = Job("run", [], tmp_path / "log")
    assert slurm._look(job, ticket, {}, {})
    assert job.state == "failed"
    assert "is no answer of a job" in job.reason
    assert "\n" not in job.reason


def test_what_lay_in_the_folder_answers_for_no_new_job(tmp_path):
    names = ["1_answer.json", "1_0_result.pkl", "2_answer.json", "2_0_result.pkl", "jobs.json"]
    for name in names:
        (tmp_path / name).write_text("{}")
    slurm._clear(tmp_path, ["2"])
    assert {path.name for path in tmp_path.iterdir()} == {*names[2:]}


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"a": []}', "nothing", ""])
def test_a_broken_list_of_jobs_is_one_line(tmp_path, text):
    (tmp_path / "jobs.json").write_text(text)
    with pytest.raises(ClbenchError, match=r"jobs\.json is no ") as caught:
        slurm_queue.read_book(tmp_path)
    assert "\n" not in str(caught.value)
