"""Processes that end with the one that started them, also where that one is killed."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from multiprocessing import parent_process

#: Says that standard input is a pipe whose other end only the process has that started this one:
#: it ends when that process is gone. Processes that a run starts for itself inherit both.
VARIABLE = "CLBENCH_STDIN_IS_PARENT"


def follow_stdin() -> None:
    """End when standard input does, if :data:`VARIABLE` is set; a run may be cut off anywhere."""
    if VARIABLE in os.environ and stat.S_ISFIFO(os.fstat(0).st_mode):
        _end_after(lambda: os.read(0, 1))


def follow_pool() -> None:
    """End with the pool: its workers would wait for work without end."""
    parent = parent_process()
    assert parent is not None, "only for a worker"
    _end_after(parent.join)


def _end_after(wait: Callable[[], object]) -> None:
    def end() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
