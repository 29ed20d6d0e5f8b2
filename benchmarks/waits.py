"""What makes Python wait for a GPU in a training step, counted; runs nothing itself.

Python starts what a GPU does, and is to be ahead of it. Whoever asks a tensor for a number
(``.item()``, ``if``, a mask as an index) waits until the GPU has done everything before. It shows
in the events of torch's profiler, on a CPU the most part of it; what does not is seen as it is
asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from clbench.learner.learner import Learner

#: How the names of events begin, by what they say.
EVENTS = {
    "numbers read": ("aten::_local_scalar_dense",),
    # How large the result is, only the device knows.
    "sizes read": ("aten::nonzero", "aten::_unique", "aten::unique_"),
    "copies back": ("Memcpy DtoH",),
    "plain copies": ("Memcpy HtoD (Pageable",),
    "waits": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
}
#: What copies a tensor to the host.
BACK = {"tolist", "cpu", "numpy"}


class Event(Protocol):
    """What is looked at of a profiler's event."""

    name: str


def count(events: Iterable[Event]) -> Counter[str]:
    """How many events there are of each kind of :data:`EVENTS`; of others, none.

    >>> from types import SimpleNamespace as E
    >>> count([E(name="aten::mm"), E(name="aten::nonzero"), E(name="cudaStreamSynchronize")])
    Counter({'sizes read': 1, 'waits': 1})
    """
    names = Counter(event.name for event in events)
    found: Counter[str] = Counter()
    for name, times in names.items():
        for kind, begins in EVENTS.items():
            if name.startswith(begins):
                found[kind] += times
    return found


class Asked(TorchFunctionMode):
    """Counts copies that no event of a CPU tells of, and that on a GPU are waited for; final.

    Whether a tensor would be on a GPU is not known here: what is asked of one that always lies on
    the CPU counts, too.

    Attributes:
        found: ``copies back``; and ``plain copies``, of tensors made of Python's numbers on a
            device, or sent to one without ``non_blocking``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Count, and let it be done."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in BACK and isinstance(args[0], Tensor):
            self.found["copies back"] += 1
        elif name in ("tensor", "as_tensor"):
            self.found["plain copies"] += kwargs.get("device") is not None
        elif name == "to" and not kwargs.get("non_blocking"):
            place = kwargs.get("device", args[1] if len(args) > 1 else None)
            self.found["plain copies"] += isinstance(place, torch.device | str)
        return func(*args, **kwargs)


@contextmanager
def counting(task: int, steps: Collection[int]) -> Iterator[Counter[str]]:
    """Within, counts of these steps of a task of any run; fetching their batches is not in them.

    Args:
        task: from 0.
        steps: from 1, of the task.
    """
    found: Counter[str] = Counter()
    whole = Learner.optimizer_step

    def step(self: Learner, *args: Any, **kwargs: Any) -> None:
        if self.context.task.index != task or self.step_count + 1 not in steps:
            whole(self, *args, **kwargs)
            return
        with profile(activities=[ProfilerActivity.CPU]) as seen, Asked() as asked:
            whole(self, *args, **kwargs)
        found.update(count(seen.events()))
        found.update(+asked.found)

    Learner.optimizer_step = step  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Learner.optimizer_step = whole  # type: ignore[method-assign]
