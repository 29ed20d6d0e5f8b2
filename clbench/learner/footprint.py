"""What a method costs beside its accuracy: what it stores, what it computes, what it may see."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from clbench.methods.base import Method
from clbench.weights import bytes_in


class Clock:
    """Seconds spent in the hooks of each method.

    Time that a penalty adds to the backward pass is not in it; on a GPU, a hook's time is that
    until its kernels are queued, unless it waits for them.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[int, float] = defaultdict(float)

    @contextmanager
    def __call__(self, method: Method) -> Iterator[None]:
        """Count the time within the context as the method's."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[id(method)] += time.perf_counter() - began

    def of(self, method: Method) -> float:
        """Seconds so far."""
        return self.seconds[id(method)]


def measure(
    method: Method, image_bytes: int, seconds: float, task_seconds: float
) -> dict[str, float]:
    """The footprint of one method after a task.

    Args:
        method: the method.
        image_bytes: bytes of one stored image.
        seconds: spent in the method's hooks.
        task_seconds: spent on the whole task.
    """
    samples = method.stored_samples()
    needs = method.needs
    return {
        "past_data": needs.past_data,
        "task_boundaries": needs.task_boundaries,
        **({"reference_data": True} if needs.reference_data else {}),
        "stored_samples": samples,
        "stored_bytes": samples * image_bytes + bytes_in(method.state_dict()),
        "weight_copies": needs.copies,
        "extra_passes_per_step": needs.passes,
        "time_share": seconds / task_seconds,
    }
