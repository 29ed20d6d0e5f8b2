"""The processes of a run of several, and what they say to each other.

The first one opens a store at ``MASTER_ADDR:MASTER_PORT``, where torch's processes meet anyway, or
takes torchrun's, and leaves the port of its roll call there. Messages are lines of JSON.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError
from clbench.processes import same
from clbench.processes.contact import (
    LOCAL,
    Wire,
    key,
    meet_first,
    open_store,
    start,
    use_interface,
)
from clbench.processes.rollcall import LEAVING, Chosen, Failure, RollCall

#: Seconds after which a line says who is waited for.
QUIET = 5.0


class _Member(RollCall):
    """One of several processes.

    Args:
        rank: which.
        world: how many there are.
        starts: how many of them are started from here.
    """

    def __init__(self, rank: int, world: int, starts: int) -> None:
        super().__init__(rank, world)
        self.starts = starts

    def start_others(self) -> None:
        """Start the other processes of this machine, once."""
        if self.starts and not self.children:
            self.children = list(start(self.starts))

    def close(self) -> None:
        """The end of this process."""
        self._leave()


class First(_Member):
    """The first process: the others are connected to it.

    Args:
        world: how many processes there are.
        nodes: on how many machines.
        starts: how many of them are started from here.
        address: where the processes meet; port 0: a free one.
        limit: seconds in which all have to come.
        digest: of the recipe, which must be theirs too.
    """

    def __init__(
        self,
        world: int,
        nodes: int,
        starts: int,
        address: tuple[str, int],
        limit: float,
        digest: str,
    ) -> None:
        super().__init__(0, world, starts)
        self.limit, self.digest = limit, digest
        self.all_here_by = time.monotonic() + limit
        self.lines: dict[int, Wire] = {}
        self.done = dict.fromkeys(range(1, world), 0)
        self.gone: set[int] = set()
        self.has: dict[int, dict[str, Any]] = {}  # by rank, what it goes into a run with
        self._told = False
        self._folder: dict[str, Any] | None = None
        self.server = socket.create_server((LOCAL if nodes == 1 else "", 0))
        self.store = open_store(address, limit)
        os.environ |= {"MASTER_ADDR": address[0], "MASTER_PORT": str(self.store.port)}
        self.store.set(key(), str(self.server.getsockname()[1]))
        threading.Thread(target=self._listen, daemon=True, name="roll call").start()

    def agree(self, choose: Callable[[], Chosen]) -> Chosen:
        """Choose, and tell the others."""
        if self.gone:
            raise ClbenchError(f"process {min(self.gone)} of {self.world} has left: start anew")
        chosen = choose()
        with self._lock:
            folder = str(chosen.folder.resolve())
            self._folder = {**asdict(chosen), "folder": folder, "run": self.run}
            self._send(self._folder)
        return chosen

    def start_others(self) -> None:
        """As for any process; the time in which all have to come begins now."""
        if self.starts and not self.children:
            self.all_here_by = time.monotonic() + self.limit
        super().start_others()

    def compare(self, own: Mapping[str, Any], limit: float) -> None:
        """Compare what the others say, then let them go on."""
        deadline = time.monotonic() + limit
        while any(self.has.get(rank, {}).get("run") != self.run for rank in range(1, self.world)):
            if time.monotonic() > deadline:
                raise ClbenchError(
                    f"some of {self.world} processes are not ready to train after {limit:g} s: "
                    "raise process_timeout if they are busy"
                )
            time.sleep(0.02)
        for rank, told in sorted(self.has.items()):
            same.check(own, told, f"process {rank} of {self.world}")
        for address in [line.address for line in self.lines.values()]:
            use_interface(address)
        self._send({"same": self.run})

    def _tell(self, failure: Failure) -> None:
        self._send({"failed": failure.line, "signal": failure.signal})
        for rank, child in enumerate(self.children, 1):
            if rank not in self.lines:  # it is still importing
                child.kill()
        if len(self.lines) < self.world - 1 - len(self.children):
            deadline = time.monotonic() + LEAVING  # others may be about to come, and would wait
            while time.monotonic() < deadline and len(self.lines) < self.world - 1:
                time.sleep(0.05)

    def _finished(self) -> None:
        self._send({"done": self.run})

    def _prints(self) -> bool:
        return True

    def _send(self, message: dict[str, Any]) -> None:
        with self._lock:
            for line in self.lines.values():
                line.send(message)

    def _listen(self) -> None:
        chosen = selectors.DefaultSelector()
        chosen.register(self.server, selectors.EVENT_READ)
        while True:
            for ready, _ in chosen.select(0.5):
                if ready.fileobj is self.server:
                    line = Wire(self.server.accept()[0])
                    chosen.register(line.socket, selectors.EVENT_READ, line)
                elif not self._read(ready.data):
                    chosen.unregister(ready.fileobj)
                    ready.data.socket.close()
            if self.failure is None:
                self._count()

    def _read(self, line: Wire) -> bool:
        """Take what a process says; False once it is gone."""
        messages = line.read()
        for message in messages or []:
            if "rank" in message:
                self._welcome(line, message)
            elif "failed" in message:
                self._lose(Failure(str(message["failed"]), int(message["signal"])))
            elif "done" in message:
                self.done[line.rank] = int(message["done"])
            elif "has" in message:
                self.has[line.rank] = message
        if messages is None and line.rank:
            if self.at_work and self.done[line.rank] == self.run:
                self.gone.add(line.rank)
            else:
                self._lose(Failure(self._fate(line.rank)))
        return messages is not None

    def _welcome(self, line: Wire, message: dict[str, Any]) -> None:
        rank = int(message["rank"])
        with self._lock:
            line.rank = rank
            self.lines[rank] = line
            if self.failure:
                line.send({"failed": self.failure.line, "signal": self.failure.signal})
            elif self._folder:
                line.send(self._folder)
        if message["recipe"] != self.digest:
            self._lose(Failure(f"process {rank} of {self.world} was started with another recipe"))

    def _count(self) -> None:
        """Whether all are here that should be."""
        missing = [rank for rank in range(1, self.world) if rank not in self.lines]
        for rank, child in enumerate(self.children, 1):
            if rank in missing and child.poll() is not None:
                self._lose(Failure(self._fate(rank)))
                return
        waited = self.limit - (self.all_here_by - time.monotonic())
        if missing and not self.children and waited > QUIET and not self._told:
            self._told = True
            ranks = ", ".join(map(str, missing))
            print(
                f"Waiting up to {self.limit:g} s for {ranks} of {self.world} processes, which are "
                "to be started beside this one.",
                flush=True,
            )
        if missing and (self.children or not self.starts) and time.monotonic() > self.all_here_by:
            ranks = ", ".join(map(str, missing))
            self._lose(
                Failure(
                    f"of {self.world} processes, {ranks} did not come within {self.limit:g} s: "
                    "start them all (srun or torchrun on every node), or raise process_timeout"
                )
            )

    def _lose(self, failure: Failure) -> None:
        if self.failure is None:
            self._send({"failed": failure.line, "signal": failure.signal})
        self.lose(failure)

    def _fate(self, rank: int) -> str:
        """What became of a process."""
        code = None
        if rank <= len(self.children):
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.children[rank - 1].wait(2)
        what = f"process {rank} of {self.world} "
        if code is None or code >= 0:
            return what + ("is gone" if code is None else f"ended with exit code {code}")
        return f"{what}was ended by {signal.Signals(-code).name}"


class Other(_Member):
    """Any process but the first, to which it is connected; the arguments are as there."""

    def __init__(
        self,
        rank: int,
        world: int,
        nodes: int,
        starts: int,
        address: tuple[str, int],
        limit: float,
        digest: str,
    ) -> None:
        super().__init__(rank, world, starts)
        self.first_is_gone, self.first_is_done, self.same = False, 0, 0
        self.folders: queue.Queue[dict[str, Any]] = queue.Queue()
        self.line = meet_first(address, nodes, limit, rank)
        use_interface(self.line.address)
        self.line.send({"rank": rank, "recipe": digest})
        threading.Thread(target=self._listen, daemon=True, name="roll call").start()

    def agree(self, choose: Callable[[], Chosen]) -> Chosen:
        """What the first process chose."""
        while True:
            message = self.folders.get()
            if message["run"] == self.run:
                return Chosen(Path(message["folder"]), message["resume"], message["over"])

    def compare(self, own: Mapping[str, Any], limit: float) -> None:
        """Say what there is here, and wait for the first one's word; it fails if there is none."""
        deadline = time.monotonic() + limit
        self.line.send(same.fingerprints(own) | {"run": self.run})
        while self.same != self.run:
            if time.monotonic() > deadline:
                at = f"{limit:g} s after process {self.rank}: raise process_timeout if it is busy"
                raise ClbenchError(f"of {self.world} processes, one is not ready to train {at}")
            time.sleep(0.02)

    def _tell(self, failure: Failure) -> None:
        self.line.send({"failed": failure.line, "signal": failure.signal})

    def _finished(self) -> None:
        self.line.send({"done": self.run})

    def _prints(self) -> bool:
        return self.first_is_gone and self.rank == 1

    def _listen(self) -> None:
        while (messages := self.line.read()) is not None:
            for message in messages:
                if "folder" in message:
                    self.folders.put(message)
                elif "failed" in message:
                    self.lose(Failure(str(message["failed"]), int(message["signal"])))
                elif "done" in message:
                    self.first_is_done = int(message["done"])
                elif "same" in message:
                    self.same = int(message["same"])
        if self.failure is None and not (self.at_work and self.first_is_done == self.run):
            self.first_is_gone = True
            self.lose(Failure(f"process 0 of {self.world} is gone"))
