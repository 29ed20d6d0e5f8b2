"""Keeps the processes of a run together: they meet, agree on a folder, and end together.

Every process holds a connection to the first one, from before any data is loaded to the end. The
kernel closes it however a process ends, SIGKILL included, so that no process waits for one that is
gone, whatever it is doing: a process that fails says why, the first one tells the others, and one
line is printed. Nothing here is read or written while all is well.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch.distributed as dist

from clbench.errors import ClbenchError, first_line

#: Seconds that the main thread has to come to its end once a process is gone, before it is ended.
GRACE = 5.0
#: Seconds that an error which may come from a lost process waits for news of one.
NEWS = 5.0
#: Seconds that processes which are at their end have to leave.
LEAVING = 30.0


@dataclass(frozen=True)
class Failure:
    """Why a run ends early.

    Attributes:
        line: what happened.
        signal: that stopped the run; 0 for an error.
    """

    line: str
    signal: int = 0


@dataclass(frozen=True)
class Chosen:
    """What the first process decides for all.

    Attributes:
        folder: of the run.
        resume: whether it holds a run to go on with.
        over: whether nothing is left to do in it.
    """

    folder: Path
    resume: bool = False
    over: bool = False


class RollCall(ABC):
    """One process's part in keeping the others company.

    Attributes:
        rank: which process this is.
        world: how many there are.
        failure: why the run ends early, once it is known.
    """

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self.failure: Failure | None = None
        self.run = 0  # one process may make several runs, one after the other
        self.at_work = False
        self.children: list[subprocess.Popen[bytes]] = []
        self._stopped_by = 0
        self._lock = threading.RLock()
        self._news, self._left = threading.Event(), threading.Event()

    @abstractmethod
    def agree(self, choose: Callable[[], Chosen]) -> Chosen:
        """What the first process chooses for all."""

    @abstractmethod
    def start_others(self) -> None:
        """Start the processes of this machine, where nobody else does."""

    @abstractmethod
    def compare(self, own: Mapping[str, Any], limit: float) -> None:
        """Wait until all are here, and see that they go into the run with the same.

        Args:
            own: what it is called, and what this process has of it, as JSON can hold it.
            limit: seconds to wait.

        Raises:
            ClbenchError: on the first process, if another one has something else; on any, if not
                all are ready within the limit.
        """

    @abstractmethod
    def _tell(self, failure: Failure) -> None:
        """Tell the others why this process ends."""

    @abstractmethod
    def _finished(self) -> None:
        """Tell the others that this process is through with the run."""

    @abstractmethod
    def _prints(self) -> bool:
        """Whether this process prints a failure that it heard of."""

    @contextmanager
    def watch(self) -> Iterator[None]:
        """The run. If a process is lost within it, all end, with one line.

        Raises:
            ClbenchError: on the process that prints, if another one failed.
            KeyboardInterrupt: if the run was stopped.
            SystemExit: on the other processes, in silence.
        """
        with self._lock:
            if self.failure:
                raise ClbenchError(f"processes of an earlier run are gone ({self.failure.line})")
            self.run, self.at_work = self.run + 1, True
            self._left.clear()
        with self._stops_on_sigterm():
            try:
                yield
            except BaseException as error:
                ending = self._settle(error)
                if ending is error:
                    raise
                raise ending from error
            with self._lock:
                self.at_work = False
        self._finished()

    def lose(self, failure: Failure) -> None:
        """Called from the watching thread: a process is lost. Ends this one if it is at work."""
        with self._lock:
            if self.failure is None:
                self.failure = failure
            self._news.set()
            if not self.at_work:
                return
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        threading.Thread(target=self._see_to_the_end, daemon=True).start()

    def _see_to_the_end(self) -> None:
        if not self._left.wait(GRACE):  # it waits for a collective operation, say
            self._end_now()

    def _settle(self, error: BaseException) -> BaseException:
        """What to raise in place of an error, once the others know."""
        while True:
            try:
                with self._lock:
                    self.at_work = False
                ending = self._ending(error)
                self._leave()
                self._left.set()
                return ending
            except KeyboardInterrupt:  # that was `lose`, or an impatient user
                continue

    def _ending(self, error: BaseException) -> BaseException:
        lost, stopped = _is_lost(error), isinstance(error, KeyboardInterrupt)
        if self.failure is None and self.world > 1 and (lost or stopped):
            # Who stops one process may be about to stop all; what it says need not be the cause.
            self._news.wait(NEWS if lost else 0.3)
        heard = self.failure is not None
        if not heard:
            self.failure = self._own(error, lost)
            self._tell(self.failure)
        assert self.failure is not None
        if self.failure.signal:
            number = self.failure.signal
            return KeyboardInterrupt(number) if self.rank == 0 else SystemExit(128 + number)
        if (heard or lost) and self._prints():
            return ClbenchError(self.failure.line)
        if self.rank == 0 or not (heard or lost or isinstance(error, ClbenchError)):
            return error
        return SystemExit(2)

    def _own(self, error: BaseException, lost: bool) -> Failure:
        if isinstance(error, KeyboardInterrupt):
            return Failure("stopped", self._stopped_by or signal.SIGINT)
        if isinstance(error, ClbenchError):
            return Failure(str(error))
        # gloo says in brackets where in its source
        first = re.sub(r"^\[[^ ]*\] ", "", first_line(error))
        if lost:
            return Failure(
                f"process {self.rank} of {self.world} lost the others or waited too long for them "
                f"({first}): go on with --resume, and raise process_timeout if they were busy"
            )
        return Failure(
            f"process {self.rank} of {self.world} failed: {type(error).__name__}: {first}"
        )

    def _leave(self) -> None:
        """Do not leave before the processes that were started from here."""
        deadline = time.monotonic() + (GRACE + 2 if self.failure else LEAVING)
        for child in self.children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _end_now(self) -> NoReturn:
        assert self.failure is not None
        if self._prints():
            text = "Stopped" if self.failure.signal else f"error: {self.failure.line}"
            print(f"{text}; go on with --resume", file=sys.stderr, flush=True)
        for child in self.children:
            child.kill()
            child.wait()
        os._exit(128 + self.failure.signal if self.failure.signal else 2)

    @contextmanager
    def _stops_on_sigterm(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self.failure is None and not self._stopped_by:
                self._stopped_by = number
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


class Alone(RollCall):
    """The only process of a run."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def agree(self, choose: Callable[[], Chosen]) -> Chosen:
        """What this process chooses."""
        return choose()

    def start_others(self) -> None:
        """There are none."""

    def compare(self, own: Mapping[str, Any], limit: float) -> None:
        """There is nobody to compare with."""

    def _tell(self, failure: Failure) -> None:
        pass

    def _finished(self) -> None:
        pass

    def _prints(self) -> bool:
        return True


def _is_lost(error: BaseException) -> bool:
    """Whether an error may come from a process that is gone or does not answer."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error))
    )
