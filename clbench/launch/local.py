"""Runs in processes of their own, several at a time, with the machine shared out among them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clbench.errors import one_line
from clbench.machine import cores
from clbench.processes import parent

#: Variables that tell numerical libraries how many threads to use.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
POLL = 0.2
#: Seconds that a run has to stop by itself before it is killed.
STOP = 10.0
#: Bytes at the end of a log in which the reason of a failure is looked for.
TAIL = 1 << 20


@dataclass
class Job:
    """A command to run.

    Attributes:
        name: of the run.
        words: the command line.
        log: file for everything it prints.
        folder: the run folder; its checkpoints tell a cluster whether the run gets on.
        state: ``waiting``, ``running``, ``finished`` or ``failed``.
        reason: why it failed, in a line.
        seconds: wall-clock time so far.
    """

    name: str
    words: Sequence[str]
    log: Path
    folder: Path | None = None
    state: str = "waiting"
    reason: str = ""
    began: float = 0.0
    seconds: float = 0.0
    slot: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)


OnChange = Callable[[Job | None], None]
#: Runs jobs; calls back with a job that started or ended, and now and then with None.
Launch = Callable[[Sequence[Job], OnChange], None]


def launch(jobs: Sequence[Job], at_once: int, changed: OnChange) -> None:
    """Run all jobs; one that fails does not stop the others. None outlives this process.

    A process of its own for each run keeps memory figures and a crash to that run.

    Args:
        jobs: in the order to start them.
        at_once: how many run side by side; each gets its share of the cores, and one of the GPUs.
        changed: called with a job that started or ended, and now and then with None.
    """
    free = list(range(at_once))
    waiting, running = list(jobs), list[Job]()
    try:
        while waiting or running:
            while waiting and free:
                job = waiting.pop(0)
                job.slot = free.pop(0)
                _start(job, at_once)
                running.append(job)
                changed(job)
            time.sleep(POLL)
            for job in list(running):
                if _ended(job):
                    running.remove(job)
                    free.append(job.slot)
                    changed(job)
            changed(None)
    except BaseException:
        _stop([job.process for job in running if job.process is not None])
        raise


def shares(at_once: int, slot: int, gpus: Sequence[str]) -> dict[str, str]:
    """Environment variables that give a process its share of the machine.

    Args:
        at_once: processes side by side.
        slot: which of them this is, from 0.
        gpus: devices that may be used; with several, each process sees one.
    """
    threads = str(max(1, cores() // at_once))
    shared = dict.fromkeys(THREADS, threads)
    if at_once > 1 and len(gpus) > 1:
        shared["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return shared


def visible_gpus() -> list[str]:
    """Names of the GPUs as ``CUDA_VISIBLE_DEVICES`` has them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _start(job: Job, at_once: int) -> None:
    environment = dict(os.environ) | shares(at_once, job.slot, visible_gpus())
    environment[parent.VARIABLE] = "1"
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.state, job.began = "running", time.monotonic()
    with job.log.open("wb") as log:
        job.process = subprocess.Popen(
            job.words, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
        )


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ctrl-C reaches them too; other signals and errors do not."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + STOP
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _let_go(process)


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe; what a run started for itself, and left behind, ends now."""
    assert process.stdin is not None
    process.stdin.close()


def _ended(job: Job) -> bool:
    assert job.process is not None
    job.seconds = time.monotonic() - job.began
    code = job.process.poll()
    if code is None:
        return False
    _let_go(job.process)
    job.state = "failed" if code else "finished"
    if code:
        job.reason = why_failed(job.log, code)
    return True


def why_failed(log: Path, code: int) -> str:
    """Why a process failed, in a line: its error, or the signal that ended it."""
    if code < 0:
        return f"killed by signal {-code}, see {log}"
    lines = last_lines(log)
    told = [line for line in lines if line.startswith("error: ")]
    last = one_line((told or lines or [f"exit code {code}"])[-1].removeprefix("error: "))
    return last if told else f"{last[:300]} (see {log})"


def last_lines(log: Path) -> list[str]:
    """The last lines of what a process printed that are not empty, whatever bytes it printed.

    There are none where it cannot be read: why one run failed must not end all others.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            text = file.read(TAIL).decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def train_words(folder: Path, *plugins: str, **addresses: str) -> list[str]:
    """The command that runs, or goes on with, the run in a folder that holds ``config.yaml``.

    Args:
        folder: of the run.
        *plugins: of its recipe; a run that finds them in its folder alone does not load them.
        **addresses: of its loggers, which are not asked by a run that finds them there alone.
    """
    config = str(folder / "config.yaml")  # named, as without it another run would begin
    words = ["--config", config, "--resume", "--output", str(folder)]
    words += ["--plugins", *plugins] if plugins else []
    words += [word for name, address in addresses.items() for word in (f"--{name}", address)]
    return [sys.executable, "-m", "clbench", "train", *words]
