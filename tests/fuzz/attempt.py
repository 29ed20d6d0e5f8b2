"""One command in a process of its own, forked from one that has imported everything."""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Seconds after which a command hangs; a machine that does other things as well needs more.
SECONDS = float(os.environ.get("FUZZ_SECONDS", "10"))
#: Bytes that a command may use before it is a bomb.
MEMORY = 8 << 30


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        code: its exit code; negative: the signal that ended it.
        out, err: what it printed.
        seconds: how long it took.
    """

    code: int
    out: str
    err: str
    seconds: float


def attempt(command: Callable[[], int], folder: Path, seconds: float = SECONDS) -> Outcome:
    """Run a command in a child, within ``folder``, for at most ``seconds``."""
    began = time.monotonic()
    out, err = folder / "stdout.txt", folder / "stderr.txt"
    child = os.fork()
    if not child:
        _be(command, folder, out, err)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - began > seconds:
            os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            break
        time.sleep(0.005)
    texts = [p.read_text(encoding="utf-8", errors="replace") for p in (out, err)]
    return Outcome(os.waitstatus_to_exitcode(status), *texts, time.monotonic() - began)


def _be(command: Callable[[], int], folder: Path, out: Path, err: Path) -> None:
    """The child: the command, its words in files, and no way back."""
    code = 70
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        os.chdir(folder)
        for path, number in ((out, 1), (err, 2)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
        os.close(0)
        os.open(os.devnull, os.O_RDONLY)
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        code = command()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
