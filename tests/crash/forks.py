"""Runs as forks of one process that has imported everything: a second each, and killed for real."""

import json
import multiprocessing
import os
import signal
import sys
import traceback
import zlib
from dataclasses import dataclass
from pathlib import Path

from crash.disk import Disk
from PIL import Image


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        code: exit code; minus the signal if it was killed.
        points: what was done to its folder, in order; None if it was killed.
        past: files in its folder that were written in ways that are not watched.
        output: what it printed.
    """

    code: int
    points: list[str] | None
    past: list[str]
    output: str


class Forks:
    """A process to fork from; ends with the ``with``."""

    def __enter__(self) -> "Forks":
        # Not a fork of this one, which may hold threads and locks of other tests.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,))
        self.process.start()
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self.process.join(60)

    def run(
        self,
        words: list[str],
        folder: Path,
        kill: int | None = None,
        room: int | None = None,
        timeout: float = 300,
    ) -> Ended:
        """``clbench train`` with these words, its folder watched."""
        self.pipe.send(([str(word) for word in words], str(folder), kill, room))
        if not self.pipe.poll(timeout):
            raise TimeoutError(f"{words} took more than {timeout} s")
        return self.pipe.recv()


def _serve(pipe) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from clbench.cli.cli import main  # noqa: F401
    from clbench.report.figures import FIGURES

    torch.set_num_threads(1)
    # Pictures take three quarters of so small a run, and have their own tests.
    FIGURES.update(dict.fromkeys(FIGURES, _Picture))
    while True:
        try:
            words, folder, kill, room = pipe.recv()
        except EOFError:
            os._exit(0)
        told = Path(f"{folder}.told")
        told.unlink(missing_ok=True)
        output = Path(f"{folder}.output")
        child = os.fork()
        if child == 0:
            _run(words, Disk(Path(folder), kill, room), told, output)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        points, past = json.loads(told.read_text()) if told.exists() else (None, [])
        pipe.send(Ended(code, points, past, output.read_text()))


class _Picture:
    """In the place of a figure: a picture of the record that is drawn at once."""

    def __init__(self, record) -> None:
        self.value = zlib.crc32(json.dumps(record.summary()["task_incremental"]).encode())

    def savefig(self, file, **_: object) -> None:
        Image.new("RGB", (8, 8), self.value & 0xFFFFFF).save(file, "png")


def _run(words: list[str], disk: Disk, told: Path, output: Path) -> None:
    """Of a fork: run, tell what happened, end."""
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with output.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        from clbench.cli.cli import main

        disk.watch()
        code = main(["train", *words])
    except BaseException:
        traceback.print_exc()
    finally:
        files = {os.path.join(top, n) for top, _, names in os.walk(disk.folder) for n in names}
        past = sorted(files - disk.opened)
        told.write_text(json.dumps([disk.points, past]))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
