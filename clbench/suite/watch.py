"""What a user sees while a suite runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import chain, islice

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from clbench.launch.local import Job
from clbench.suite.done import tasks_done
from clbench.text.numbers import duration

#: Rows of the table; what runs comes first, then what failed.
MOST = 20
ORDER = ("running", "failed", "waiting", "finished")


class Watch:
    """Within a ``with``, a function to call when a job's state has changed (None: look again).

    Args:
        jobs: all of them.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs, self.at_once = jobs, 1
        self.by_state: dict[str, dict[str, Job]] = {state: {} for state in ORDER}
        self.taken = 0.0  # seconds, of all that are finished
        for job in jobs:
            self._file(job)
        self.live: Live | None = None
        if sys.stdout.isatty():
            self.live = Live(self.table(), console=Console(), refresh_per_second=2)

    def __enter__(self) -> Callable[[Job | None], None]:
        if self.live is not None:
            self.live.start()
        return self.changed

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.update(self.table())
            self.live.stop()

    def changed(self, job: Job | None) -> None:
        """Show that a job started or ended; in a suite of thousands, each costs the same."""
        if job is not None:
            self._file(job)
        self.at_once = max(self.at_once, len(self.by_state["running"]))
        if self.live is not None:
            self.live.update(self.table())
        elif job is not None and job.state in ("finished", "failed"):
            end = f": {job.reason}" if job.reason else f" in {job.seconds:.1f} s"
            line = f"[{self._over()}/{len(self.jobs)}] {job.name} {job.state}{end}"
            print(line + self._left(), flush=True)

    def table(self) -> Table:
        """The jobs, what runs first."""
        table = Table("run", "state", "tasks", "time", title_justify="left")
        rows = chain.from_iterable(self.by_state[state].values() for state in ORDER)
        for job in islice(rows, MOST):
            done, total = tasks_done(job.folder) if job.folder else (0, 0)
            table.add_row(
                escape(job.name),
                escape(f"failed: {job.reason}" if job.state == "failed" else job.state),
                f"{done}/{total}" if total else "–",
                "–" if job.state == "waiting" else duration(round(job.seconds)),
            )
        if len(self.jobs) > MOST:
            table.add_row(f"and {len(self.jobs) - MOST} more", "", "", "")
        table.title = f"{self._over()} of {len(self.jobs)} done{self._left()}"
        return table

    def _file(self, job: Job) -> None:
        for jobs in self.by_state.values():
            jobs.pop(job.name, None)
        self.by_state[job.state][job.name] = job
        self.taken += job.seconds * (job.state == "finished")

    def _over(self) -> int:
        return len(self.by_state["finished"]) + len(self.by_state["failed"])

    def _left(self) -> str:
        """How long it will still take, if those to come take as long as those finished."""
        if not self.by_state["finished"]:
            return ""
        mean = self.taken / len(self.by_state["finished"])
        running = [job.seconds for job in self.by_state["running"].values()]
        seconds = seconds_left(mean, running, len(self.by_state["waiting"]), self.at_once)
        return f" (about {duration(seconds)} left)" if seconds else ""


def seconds_left(mean: float, running: Sequence[float], waiting: int, at_once: int) -> float:
    """Until all jobs are over, if each takes the mean.

    Args:
        mean: seconds that one takes.
        running: for how long each of those has been that run.
        waiting: how many are to come.
        at_once: how many run side by side.
    """
    rest = sum(max(0.0, mean - seconds) for seconds in running) + waiting * mean
    return rest / max(1, min(at_once, len(running) + waiting))
