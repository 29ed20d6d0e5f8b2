"""Runs as the jobs of a SLURM array, requeued when their time is up; submitit submits them."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clbench.errors import ClbenchError, by_ctrl_c, one_line
from clbench.explain import read_section
from clbench.launch import slurm_queue
from clbench.launch.local import Job, OnChange, last_lines
from clbench.launch.slurm_job import Work, ends
from clbench.record.reading import json_of
from clbench.settings import Section
from clbench.text.numbers import counted

if TYPE_CHECKING:
    from submitit import Job as SubmittedJob

#: Seconds between looks for results, and between questions to SLURM.
POLL, ASK = 1.0, 20.0
#: Jobs looked at in a second at most, so that a large suite burdens neither disk nor SLURM more.
LOOKS = 20.0
#: Seconds that a job may be gone from the queue before its result is seen on a shared file system.
GRACE = 60.0
#: submitit's own bound on requeues counts those with progress too; :class:`Work` has a better one.
UNBOUNDED = 10**6
#: Ends of the names of the files that say how a job ended.
ENDS = ("answer.json", "0_result.pkl")
#: Options of sbatch by which the launcher finds its jobs and their ends.
OWN = {"array", "error", "job_name", "open_mode", "output", "signal", "time"}


class Settings(Section):
    """What to ask of the cluster for each run: ``--slurm.partition gpu`` and so on."""

    partition: str | None = Field(None, description="partition; default: the cluster's own")
    account: str | None = Field(None, description="account to charge")
    qos: str | None = Field(None, description="quality of service")
    timeout_min: int = Field(60, ge=1, description="time limit in minutes; then a run is requeued")
    gpus: int = Field(0, ge=0, description="GPUs on the node")
    cpus: int = Field(1, ge=1, description="cores, and threads of numerical libraries")
    mem_gb: float | None = Field(None, gt=0, description="memory in GB; default: the cluster's own")
    signal_delay_s: int = Field(
        60, ge=15, description="seconds before the limit at which a run is stopped and requeued"
    )
    patience: int = Field(
        2, ge=1, description="time limits in a row without a finished task before a run is given up"
    )
    setup: list[str] = Field(
        default_factory=list, description="shell lines before the run, e.g. [module load cuda]"
    )
    sbatch: dict[str, Any] = Field(
        default_factory=dict, description="any other option of sbatch, e.g. {constraint: a100}"
    )


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Checked settings from plain values.

    Raises:
        ClbenchError: one line naming the key, the value and the reason.
    """
    made = read_section(Settings, values, "slurm")
    if made.signal_delay_s >= made.timeout_min * 60:
        raise ClbenchError(
            f"slurm.signal_delay_s = {made.signal_delay_s}: must be shorter than the time limit, "
            f"{made.timeout_min} min"
        )
    if own := [key for key in made.sbatch if key.replace("-", "_") in OWN]:
        raise ClbenchError(f"slurm.sbatch.{own[0]} is the launcher's own: leave it out")
    return made


def launch_array(
    jobs: Sequence[Job], at_once: int, changed: OnChange, wanted: Settings, folder: Path
) -> None:
    """Run all jobs as one array; one that fails does not stop the others.

    Ctrl-C cancels the jobs. If this process ends in any other way, they go on, and a later call
    with the same folder takes them up again.

    Args:
        jobs: in the order to start them; their words, logs and folders must be on a file system
            that the nodes share.
        at_once: how many SLURM may run side by side.
        changed: called with a job that started or ended, and now and then with None.
        wanted: what to ask of the cluster.
        folder: for what submitit writes; shared too.

    Raises:
        ClbenchError: if sbatch refuses the jobs, or SLURM does not answer at the start.
    """
    folder = folder.absolute()
    try:
        submitted = _submit(jobs, at_once, wanted, folder)
    except KeyboardInterrupt as end:
        if by_ctrl_c(end):  # no list may have the jobs yet, but they have their name
            slurm_queue.cancel_all(folder, slurm_queue.states(_named(folder)) or ())
        raise
    left, running = list(jobs), list[Job]()
    asked, gone = 0.0, dict[str, float]()
    try:
        while left:
            time.sleep(max(POLL, len(running) / LOOKS))
            states, seen = None, running
            if time.monotonic() - asked >= max(ASK, len(left) / LOOKS):
                asked, states, seen = time.monotonic(), slurm_queue.states(), left
            news = [job for job in seen if _look(job, submitted[job.name], states, gone)]
            if news:
                left = [job for job in left if job.state not in ("finished", "failed")]
                running = [job for job in left if job.state == "running"]
            for job in news:
                changed(job)
            changed(None)
    except BaseException as end:
        if by_ctrl_c(end):
            slurm_queue.cancel_all(folder, [submitted[job.name].job_id for job in left])
        else:  # a login node that goes down, a disk that is full, a terminal that is gone
            _say_that_they_go_on(left)
        raise


def _say_that_they_go_on(left: Sequence[Job]) -> None:
    told = f"{counted(len(left), 'job')} not cancelled: the same command takes them up."
    with suppress(OSError):  # nobody may be there to read it
        if left:
            print(told, flush=True)


def check_slurm() -> None:
    """See that jobs can be submitted.

    Raises:
        ClbenchError: if submitit or SLURM is not there.
    """
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise ClbenchError(
            "--launcher slurm needs submitit: pip install 'clbench[slurm]'"
        ) from error
    if not shutil.which("sbatch") or not shutil.which("srun"):
        raise ClbenchError(
            "there is no SLURM here (no sbatch or srun): start on a login node of the cluster, or "
            "leave --launcher slurm out"
        )


def _executor(folder: Path, wanted: Settings, at_once: int) -> Any:
    import submitit

    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=UNBOUNDED)
    options = {
        "job_name": _named(folder).partition("=")[2],
        "time": wanted.timeout_min,
        "signal_delay_s": wanted.signal_delay_s,
        "cpus_per_task": wanted.cpus,
        "array_parallelism": at_once,
        "partition": wanted.partition,
        "account": wanted.account,
        "qos": wanted.qos,
        "gpus_per_node": wanted.gpus or None,
        "mem": f"{int(wanted.mem_gb * 1024)}M" if wanted.mem_gb else None,
        "setup": wanted.setup or None,
        "additional_parameters": {"requeue": True} | wanted.sbatch,
    }
    executor.update_parameters(**{key: v for key, v in options.items() if v is not None})
    return executor


def _submit(
    jobs: Sequence[Job], at_once: int, wanted: Settings, folder: Path
) -> dict[str, SubmittedJob[Any]]:
    """submitit's jobs by the names of the runs: those still queued from before, and new ones."""
    import submitit

    queued = slurm_queue.states()
    if queued is None:
        raise ClbenchError("SLURM does not answer: `squeue --me` failed; try again later")
    book = {name: n for name, n in slurm_queue.read_book(folder).items() if n in queued}
    _cancel_unknown(folder, book.values())
    executor = _executor(folder, wanted, at_once)
    there = {j.name: executor.job_class(folder, book[j.name]) for j in jobs if j.name in book}
    new, before = [job for job in jobs if job.name not in there], len(there)
    for job in new:
        job.log.unlink(missing_ok=True)
    _clear(folder, {*book.values()})
    size = slurm_queue.longest_array() if len(new) > 1 else 1
    for first in range(0, len(new), size):
        part = new[first : first + size]
        if first and at_once < len(new):  # each array has a bound of its own
            last = there[new[first - 1].name].job_id.partition("_")[0]
            executor.update_parameters(dependency=f"afterany:{last}")
        try:
            made = executor.submit_array([_work(job, wanted, folder) for job in part])
        except (submitit.core.utils.FailedJobError, RuntimeError, OSError) as error:
            told = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
            others = f" ({len(there)} others are queued; the same command takes them up)"
            raise ClbenchError(
                f"the jobs cannot be submitted: {told[-1]}{others if there else ''}"
            ) from error
        there |= {job.name: ticket for job, ticket in zip(part, made, strict=True)}
        slurm_queue.write_book(folder, {name: ticket.job_id for name, ticket in there.items()})
    if before:
        print(
            f"{before} runs are queued or running from before, with the --jobs and --slurm "
            "settings of then (Ctrl-C cancels them).",
            flush=True,
        )
    return there


def _cancel_unknown(folder: Path, known: Collection[str]) -> None:
    """Cancel jobs of this folder that no list has: a call was killed as it submitted them."""
    unknown = [job for job in slurm_queue.states(_named(folder)) or {} if job not in known]
    if unknown:
        print(f"{len(unknown)} jobs of a call that was killed are submitted anew.", flush=True)
        slurm_queue.cancel(unknown)


def _named(folder: Path) -> str:
    """The option of SLURM that gives the jobs of a folder their name."""
    return f"--name=clbench-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def _work(job: Job, wanted: Settings, folder: Path) -> Work:
    return Work(
        words=job.words,
        log=job.log.absolute(),
        answers=folder,
        folder=job.folder.absolute() if job.folder is not None else None,
        place=Path.cwd(),
        limit=wanted.timeout_min * 60,
        delay=wanted.signal_delay_s,
        threads=wanted.cpus,
        patience=wanted.patience,
    )


def _look(job: Job, ticket: Any, states: Mapping[str, str] | None, gone: dict[str, float]) -> bool:
    """Bring a job's state up to date; returns whether it started or ended."""
    now = time.monotonic()
    if job.began:
        job.seconds = now - job.began
    answer, result = ends(ticket.paths)
    # submitit's own result is a pickle, which whoever can write to the folder could have made: it
    # is never read. Without an answer beside it, the job failed before it could give one.
    if answer.exists() or result.exists():
        job.reason = _answer(answer, ticket)
        job.state = "failed" if job.reason else "finished"
        return True
    if states is None:
        return False
    state = states.get(ticket.job_id)
    if state is None:
        if now - gone.setdefault(job.name, now) < GRACE:
            return False
        told = _last_line(ticket) or "it printed nothing"
        job.state = "failed"
        job.reason = f"SLURM job {ticket.job_id} ended without a result ({told})"
        return True
    gone.pop(job.name, None)
    before, job.state = job.state, "running" if state == "RUNNING" else "waiting"
    if job.state == "running" and not job.began:
        job.began = now
    return job.state != before


def _answer(path: Path, ticket: Any) -> str:
    """Why a job failed, or an empty string."""
    try:
        return one_line(str(json_of(path)["reason"]))
    except FileNotFoundError:
        return _last_line(ticket) or "the job ended without an answer"
    except (OSError, LookupError, TypeError, ClbenchError) as error:
        return f"{path} is no answer of a job: {error}"


def _clear(folder: Path, jobs: Collection[str]) -> None:
    """Remove what ended jobs left, or somebody put there, so that it answers for no new one."""
    keep = {f"{job}_{end}" for job in jobs for end in ENDS}
    for path in [path for end in ENDS for path in folder.glob(f"*_{end}")]:
        if path.name not in keep:
            path.unlink(missing_ok=True)


def _last_line(ticket: Any) -> str:
    """Of what SLURM and a job printed; submitit would read all of it, and as text alone."""
    return one_line((last_lines(ticket.paths.stderr) or [""])[-1][:300])
