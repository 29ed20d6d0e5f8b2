"""Two hosts on this machine: network namespaces with a cable between them; needs root and `ip`."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
#: Names of the hosts, and their addresses in the network of both.
ADDRESSES = {"one": "10.213.7.1", "two": "10.213.7.2"}
#: A name of its own, and files that only this host sees so; `$0` is the host's folder.
ENTER = """
hostname "$(basename "$0")" && mount --bind "$0/hosts" /etc/hosts
mount --bind "$0/nsswitch" /etc/nsswitch.conf
if [ -n "$1" ]; then mount -t tmpfs none "$1"; fi
shift && exec "$@"
"""


class Host:
    """A network of its own, with everything else as it is here.

    Args:
        name: of the host.
        place: a folder for its files.
    """

    def __init__(self, name, place):
        self.name, self.space = name, f"clb{os.getpid()}{name}"
        self.place = place / name
        self.place.mkdir(parents=True)
        # As on many hosts, its own name means the loopback interface first.
        lines = [f"{address} {name}" for name, address in ADDRESSES.items()]
        lines = ["127.0.0.1 localhost", f"127.0.1.1 {name}", *lines]
        (self.place / "hosts").write_text("\n".join(lines) + "\n")
        (self.place / "nsswitch").write_text("hosts: files\n")  # there is no DNS to wait for
        self.started = []

    def start(self, *words, hides="", **environment):
        """A process there, whose output comes back; ``hides``: a folder that it sees empty."""
        enter = ["ip", "netns", "exec", self.space, "unshare", "--uts", "--mount"]
        enter += ["sh", "-c", ENTER, self.place, hides]
        process = subprocess.Popen(
            list(map(str, [*enter, *words])),
            env=os.environ | {name: str(value) for name, value in environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def kill(self):
        """SIGKILL to every process, as many as there are."""
        for pid in run("ip", "netns", "pids", self.space).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), 9)

    def unplug(self):
        """Take the cable out: nothing is heard of this host any more, no end of a connection."""
        run("ip", "-n", self.space, "link", "set", "net0", "down")


def run(*words):
    """What a command prints."""
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout


def why_not():
    """Why there cannot be two hosts here; an empty string if there can."""
    if not all(map(shutil.which, ("ip", "unshare", "hostname"))):
        return "two hosts need ip, unshare and hostname (apt-get install iproute2 hostname)"
    name = f"clb{os.getpid()}x"
    try:
        run("ip", "netns", "add", name)
        run("ip", "netns", "exec", name, "unshare", "--uts", "--mount", "true")
    except (OSError, subprocess.SubprocessError):
        return "two hosts need root and network namespaces"
    finally:
        with suppress(OSError, subprocess.SubprocessError):
            run("ip", "netns", "del", name)
    return ""


@contextmanager
def two_hosts(place):
    """Two hosts that reach each other, and nothing else; ``place``: an empty folder."""
    hosts = [Host(name, place) for name in ADDRESSES]
    spaces = [host.space for host in hosts]
    try:
        for space in spaces:
            run("ip", "netns", "add", space)
            run("ip", "-n", space, "link", "set", "lo", "up")
        cable = ["link", "add", "net0", "type", "veth", "peer", "name", "net0", "netns", spaces[1]]
        run("ip", "-n", spaces[0], *cable)
        for space, address in zip(spaces, ADDRESSES.values(), strict=True):
            run("ip", "-n", space, "address", "add", f"{address}/24", "dev", "net0")
            run("ip", "-n", space, "link", "set", "net0", "up")
        yield hosts
    finally:
        for host in hosts:
            with suppress(subprocess.SubprocessError):
                host.kill()
            for process in host.started:
                process.wait()
                process.stdout.close()
            with suppress(subprocess.SubprocessError):
                run("ip", "netns", "del", host.space)


def torchrun(hosts, *words, processes=1, hides=("", ""), **environment):
    """A program on both hosts, as many processes on each."""
    started = []
    for number, host in enumerate(hosts):
        meeting = ["--master_addr", ADDRESSES["one"], "--master_port", 29400]
        meeting += ["--node_rank", number, "--nnodes", 2, "--nproc_per_node", processes]
        started.append(host.start(*TORCHRUN, *meeting, *words, hides=hides[number], **environment))
    return started


def srun(hosts, *words, processes=1, hides=("", ""), **environment):
    """The same by what srun tells its processes."""
    known = {"NTASKS": 2 * processes, "NTASKS_PER_NODE": processes, "NNODES": 2, "STEP_ID": 0}
    known |= {"NODELIST": "one,two", "JOB_NAME": "clbench", "JOB_ID": 4711}
    started = []
    for node, host in enumerate(hosts):
        for local in range(processes):
            own = {"NODEID": node, "LOCALID": local, "PROCID": node * processes + local}
            told = {f"SLURM_{name}": value for name, value in (known | own).items()}
            word = [sys.executable, *words]
            started.append(host.start(*word, hides=hides[node], **told, **environment))
    return started
