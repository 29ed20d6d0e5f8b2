"""How processes reach each other: a store that tells where, and lines over which messages go."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from clbench.errors import ClbenchError

#: Tells a process which one started it.
PARENT = "CLBENCH_PARENT"
LOCAL = "127.0.0.1"
#: Options of TCP by which a host that is silent counts as gone after a minute, also where something
#: was sent to it that it does not acknowledge (in milliseconds).
PATIENCE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}
#: Asks Linux for the address of a network interface.
_SIOCGIFADDR = 0x8915


class Wire:
    """A connection over which messages go.

    Attributes:
        rank: of the process at the other end, once it has said so; 0 before.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.rank, self._rest = connection, 0, b""
        # A machine that loses its power or its network closes nothing.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in PATIENCE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, message: dict[str, Any]) -> None:
        """Say something; whoever is gone does not hear it."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    @property
    def address(self) -> str:
        """Of this end."""
        return str(self.socket.getsockname()[0])

    def read(self) -> list[dict[str, Any]] | None:
        """What was said since, after waiting for something; None: the other end is gone."""
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            return None
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            return [dict(json.loads(line)) for line in lines]
        except ValueError:  # a stranger
            return None


def key() -> str:
    """Under which the store has the port of the roll call; torchrun's outlives its restarts."""
    return f"clbench/roll_call/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"


def open_store(address: tuple[str, int], limit: float) -> TCPStore:
    """The store in which the processes find each other: torchrun's, or one of this process.

    torch's own processes meet in it later: of one address, a process has one store.
    """
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        return TCPStore(
            *address,
            is_master=not hosted,
            timeout=timedelta(seconds=limit),
            wait_for_workers=False,
            multi_tenant=True,
        )
    except RuntimeError as error:
        raise ClbenchError(
            f"the processes cannot meet at {address[0]}:{address[1]} "
            f"({str(error).splitlines()[0][:200]}): set MASTER_PORT to a free port"
        ) from error


def meet_first(address: tuple[str, int], nodes: int, limit: float, rank: int) -> Wire:
    """Connect to the first process, which may be still on its way."""
    deadline, store = time.monotonic() + limit, None
    parent = int(os.environ.get(PARENT, 0))
    while time.monotonic() < deadline:
        if parent and os.getppid() != parent:
            if rank > 1:
                raise SystemExit(2)
            raise ClbenchError("process 0 was gone before the others came")
        try:
            if store is None:
                socket.create_connection(address, 5).close()  # torch would warn on the screen
                store = TCPStore(*address, is_master=False, timeout=timedelta(seconds=limit))
            if store.check([key()]):
                host = LOCAL if nodes == 1 else address[0]
                found = socket.create_connection((host, int(store.get(key()))), 5)
                found.settimeout(None)
                return Wire(found)
        except (OSError, dist.DistError):
            store = None
        time.sleep(0.1)
    raise ClbenchError(
        f"process {rank} found no first process at {address[0]}:{address[1]} within {limit:g} s: "
        "start it too, or raise process_timeout"
    )


def use_interface(address: str) -> None:
    """Have gloo talk to other hosts where they were met, unless the user has said where.

    Left alone it goes by the host's name, which on many hosts means the loopback interface.

    Args:
        address: of this host, in the network of the others.
    """
    if address.startswith("127.") or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has no address
                found = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(found[20:24]) == address:
                    os.environ["GLOO_SOCKET_IFNAME"] = name


def start(count: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start this program again, for the other devices of this machine."""
    import __main__

    name = __main__.__spec__.name if __main__.__spec__ else None
    words = ["-m", name] if name else [os.path.abspath(sys.argv[0])]
    for local in range(1, count + 1):
        environment = os.environ | {"LOCAL_RANK": str(local), PARENT: str(os.getpid())}
        yield subprocess.Popen([sys.executable, *words, *sys.argv[1:]], env=environment)
