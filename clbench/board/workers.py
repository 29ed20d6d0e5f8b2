"""The same for many things, by as many processes as there are cores."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from clbench.machine import cores
from clbench.processes.parent import follow_pool

#: Processes at most.
MOST = 8
_Made = TypeVar("_Made")


def each(act: Callable[..., _Made], work: Sequence[tuple[Any, ...]]) -> list[_Made]:
    """What a function makes of each of many arguments, in order.

    Copies of this process do it where that is safe, see :mod:`clbench.report.pictures`; what they
    are given is not copied, and what they make is.
    """
    workers = min(cores(), MOST, len(work))
    if sys.platform != "linux" or "torch" in sys.modules or workers < 2:
        return [act(*one) for one in work]
    gc.collect()
    gc.freeze()  # a look for garbage would write to every page of memory, and so copy it
    try:
        with ProcessPoolExecutor(workers, get_context("fork"), _hold, (act, work)) as pool:
            return list(pool.map(_nth, range(len(work))))
    except BrokenProcessPool:  # one was killed; this process is still there
        return [act(*one) for one in work]
    finally:
        gc.unfreeze()


_held: tuple[Callable[..., Any], Sequence[tuple[Any, ...]]]


def _hold(act: Callable[..., Any], work: Sequence[tuple[Any, ...]]) -> None:
    global _held
    follow_pool()
    _held = act, work


def _nth(number: int) -> Any:
    act, work = _held
    return act(*work[number])
