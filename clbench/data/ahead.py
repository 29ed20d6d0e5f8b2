"""Threads that fetch what is needed next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Step = TypeVar("Step")
Fetched = TypeVar("Fetched")


def fetch_ahead(
    fetch: Callable[[Step], Fetched], steps: Iterable[Step], workers: int
) -> Iterator[Fetched]:
    """``map(fetch, steps)``, with ``workers`` threads that work ahead; 0 fetches in turn."""
    if workers == 0:
        yield from map(fetch, steps)
        return
    ahead: deque[Future[Fetched]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for step in steps:
            ahead.append(pool.submit(fetch, step))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
