"""What runs on a node of a SLURM cluster: one run, stopped and requeued when its time is up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from clbench.files.disk import write_atomic
from clbench.launch.local import THREADS, why_failed

#: Seconds that a run has to stop by itself before it is killed.
STOP = 10.0
#: Seconds that notice may come early: SLURM says a minute; the rest is for starting up.
EARLY = 90.0


@dataclass
class Work:
    """What runs on a node: the command, until it ends or the time is up.

    Attributes:
        words: the command line; run again, it goes on from the last finished task.
        log: file for everything it prints.
        folder: the run folder, where finished tasks leave checkpoints; None if unknown.
        place: the working directory.
        limit: the time limit in seconds.
        delay: seconds before it at which SLURM is asked to give notice.
        threads: for numerical libraries.
        patience: time limits in a row without a finished task before the run is given up.
        idle: how many there were.
        answers: folder for how it ended; None to tell submitit alone.
    """

    words: Sequence[str]
    log: Path
    folder: Path | None
    place: Path
    limit: float
    delay: float
    threads: int
    patience: int
    idle: int = 0
    answers: Path | None = None
    began: float = field(default=0.0, repr=False)
    newest: str = field(default="", repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __call__(self) -> str:
        """Run the command to its end; returns why it failed, or an empty string.

        The same stands in :func:`answer_file`: what submitit makes of it is a pickle, which could
        run code where it is read.
        """
        import submitit

        told = self._run()
        if self.answers is not None:
            answer = answer_file(self.answers, submitit.JobEnvironment().job_id)
            write_atomic(answer, json.dumps({"reason": told}))
        return told

    def _run(self) -> str:
        self.began, self.newest = time.monotonic(), self._newest()
        caught: dict[int, Any] = {}
        before: dict[int, Any] = {}
        timed = _time_signal()
        for sign in (timed, signal.SIGTERM):
            before[sign] = signal.signal(sign, lambda number, frame: caught.update({number: frame}))
        try:
            self._start()
            assert self.process is not None
            while True:
                if timed in caught:
                    # submitit's handler: checkpoint() below, requeue, exit. Here and not in the
                    # signal, where the process cannot be waited for.
                    before[timed](timed, caught.pop(timed))
                code = self.process.poll()
                # SLURM sends SIGTERM to all processes of a job that it is about to stop or to
                # requeue. That is no failure of the run: SIGKILL or the time limit follows.
                told = signal.SIGTERM in caught or code in (-signal.SIGTERM, -timed)
                if code is not None and not (code and told):
                    return why_failed(self.log, code) if code else ""
                time.sleep(0.2)
        except _GaveUp as error:
            return str(error)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def checkpoint(self) -> Any:
        """Stop the run and hand over what is to be queued again; submitit calls this.

        Raises:
            _GaveUp: if too many time limits in a row passed without a finished task.
        """
        import submitit

        self._stop()
        # A job that is asked to stop in the first half of its time makes room for another one;
        # but notice of the end may come a minute early, which for a short limit is then, too.
        end = self.limit - self.delay - EARLY
        spent = time.monotonic() - self.began >= min(self.limit / 2, end)
        if self.folder is not None and self._newest() != self.newest:
            idle = 0
        else:
            idle = self.idle + spent
        if idle >= self.patience:
            raise _GaveUp(
                f"no task was finished within {idle} time limit{'s' * (idle > 1)} of "
                f"{self.limit / 60:g} min each: raise --slurm.timeout_min"
            )
        return submitit.helpers.DelayedSubmission(replace(self, idle=idle, process=None))

    def _start(self) -> None:
        environment = dict(os.environ) | dict.fromkeys(THREADS, str(self.threads))
        # The job has one SLURM task. As Lightning reads this name, it does not ask SLURM for
        # the ranks of a run, but starts a process for each device itself.
        environment["SLURM_JOB_NAME"] = "interactive"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.words,
                env=environment,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _newest(self) -> str:
        """The name of the newest checkpoint."""
        if self.folder is None:
            return ""
        return max((path.name for path in self.folder.glob("checkpoints/task_*.pt")), default="")


def answer_file(folder: Path, job: str) -> Path:
    """Where a job, by SLURM's number, leaves how it ended."""
    return folder / f"{job}_answer.json"


@cache
def ends(paths: Any) -> tuple[Path, Path]:
    """Where a job's answer and submitit's result will be: making paths takes longer than a look.

    Args:
        paths: submitit's of a job.
    """
    return answer_file(paths.folder, paths.job_id), paths.result_pickle


class _GaveUp(Exception):
    """A run makes no progress within its time limit."""


def _time_signal() -> signal.Signals:
    """The signal with which SLURM says that the time is nearly up, as submitit asks it to."""
    import submitit

    return signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"]
