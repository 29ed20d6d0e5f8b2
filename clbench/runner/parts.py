"""What the parts of a task take: seconds, and images that go through the network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from clbench.models.differentiated import images_each
from clbench.record.events import Part


class Passes:
    """Counts the images that go through a network and its copies; not those of compiled passes.

    Attributes:
        trained: with gradients; those that methods take of frozen copies, too.
        passed: without.
        looked: of these, while points of curves were measured.
    """

    def __init__(self, model: nn.Module) -> None:
        self.trained = self.passed = self.looked = 0
        leaves = (m for m in model.modules() if not list(m.children()) and list(m.parameters()))
        next(leaves).register_forward_pre_hook(self._count)

    def _count(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if torch.compiler.is_compiling():  # a number that changes would compile every step anew
            return
        each = images_each()
        images = len(inputs[0]) * (1 if each is None else each)
        # FLOW's reference is a frozen copy; a trunk that is frozen is still in training mode.
        learns = layer.training or any(p.requires_grad for p in layer.parameters())
        if torch.is_grad_enabled() and (learns or each is not None):
            self.trained += images
        else:
            self.passed += images

    def looking(self, on_step: Callable[[int], None] | None) -> Callable[[int], None] | None:
        """What measures curves after a step, if anything does, with its images counted."""
        if on_step is None:
            return None

        def look(step: int) -> None:
            before = self.passed
            on_step(step)
            self.looked += self.passed - before

        return look

    def __deepcopy__(self, memo: object) -> Passes:
        """Copies of the network count here too."""
        return self


class Parts:
    """The parts of a task, as its record has them.

    Args:
        device: whose work is waited for before the clock is read.
        passes: what goes through the network.

    Attributes:
        found: ``seconds`` of each part, and the images ``trained`` on and ``passed`` in it.
    """

    def __init__(self, device: torch.device, passes: Passes) -> None:
        self.device, self.passes = device, passes
        self.found: dict[str, dict[str, float]] = {}
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the task began."""
        return time.perf_counter() - self.began

    @contextmanager
    def __call__(self, part: Part) -> Iterator[None]:
        """What happens within the context is of this part."""
        before = self._now()
        yield
        names = ("seconds", "trained", "passed")
        took = (b - a for a, b in zip(before, self._now(), strict=True))
        self.found[part] = dict(zip(names, took, strict=True))

    def _now(self) -> tuple[float, int, int]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), self.passes.trained, self.passes.passed
