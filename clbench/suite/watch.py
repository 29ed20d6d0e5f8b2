"""What a user sees while a suite runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from clbench.launch.local import Job
from clbench.suite.done import tasks_done
from clbench.text.numbers import duration

#: Rows of the table; what runs comes first, then what failed.
MOST = 20
ORDER = {"running": 0, "failed": 1, "waiting": 2, "finished": 3}


class Watch:
    """Within a ``with``, a function to call when a job's state has changed (None: look again).

    Args:
        jobs: all of them.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs, self.at_once = jobs, 1
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
        """Show that a job started or ended."""
        self.at_once = max(self.at_once, sum(job.state == "running" for job in self.jobs))
        if self.live is not None:
            self.live.update(self.table())
        elif job is not None and job.state != "running":
            end = f": {job.reason}" if job.reason else f" in {job.seconds:.1f} s"
            line = f"[{self._over()}/{len(self.jobs)}] {job.name} {job.state}{end}"
            print(line + self._left(), flush=True)

    def table(self) -> Table:
        """The jobs, what runs first."""
        table = Table("run", "state", "tasks", "time", title_justify="left")
        rows = sorted(self.jobs, key=lambda job: ORDER[job.state])
        for job in rows[:MOST]:
            done, total = tasks_done(job.folder) if job.folder else (0, 0)
            table.add_row(
                escape(job.name),
                escape(f"failed: {job.reason}" if job.state == "failed" else job.state),
                f"{done}/{total}" if total else "–",
                "–" if job.state == "waiting" else duration(round(job.seconds)),
            )
        if len(rows) > MOST:
            table.add_row(f"and {len(rows) - MOST} more", "", "", "")
        table.title = f"{self._over()} of {len(self.jobs)} done{self._left()}"
        return table

    def _over(self) -> int:
        return sum(job.state in ("finished", "failed") for job in self.jobs)

    def _left(self) -> str:
        seconds = seconds_left(self.jobs, self.at_once)
        return f" (about {duration(seconds)} left)" if seconds else ""


def seconds_left(jobs: Sequence[Job], at_once: int) -> float | None:
    """Until all jobs are over, if those to come take as long as those finished; None: unknown.

    Args:
        jobs: all of them.
        at_once: how many run side by side.
    """
    taken = [job.seconds for job in jobs if job.state == "finished"]
    if not taken:
        return None
    mean = sum(taken) / len(taken)
    rest = [max(0.0, mean - job.seconds) for job in jobs if job.state == "running"]
    rest += [mean for job in jobs if job.state == "waiting"]
    return sum(rest) / max(1, min(at_once, len(rest)))
