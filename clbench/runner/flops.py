"""How much a run computes in training: FLOPs of an image, times the images that were counted."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from clbench.errors import reason
from clbench.measure.evaluate import total
from clbench.processes.processes import say
from clbench.record.events import Part
from clbench.runner.parts import Passes

#: Pixels a side up to which a CPU computes sooner than it works out shapes.
SMALL = 64
#: Parts of a task that are training: not tests.
TRAINING: tuple[Part, ...] = ("prepare", "fit", "finish", "deploy")


class Flops:
    """FLOPs of training, from one image's, forwards and of a step, by torch's counter.

    A multiplication and an addition are two; matrix products, convolutions and attention count,
    nothing else does. An image is counted once for each set of parameters that is trained, on a
    copy of the network, so that nothing in it moves.

    Args:
        passes: counts the images that go through the network.
        size: side of its images in pixels.
    """

    def __init__(self, passes: Passes, size: int) -> None:
        self.passes, self.size = passes, size
        self._known: dict[tuple[str, ...], tuple[float, float] | None] = {}
        self._now: tuple[float, float] | None = None
        self._looked = 0  # images of curves before the task

    def look(self, model: nn.Module) -> None:
        """Take up a task's network, with the parameters that are trained in it."""
        trained = tuple(name for name, p in model.named_parameters() if p.requires_grad)
        if trained not in self._known:
            before = self.passes.trained, self.passes.passed
            self._known[trained] = self._of_copy(model)
            self.passes.trained, self.passes.passed = before
        self._now, self._looked = self._known[trained], self.passes.looked

    def spent(self, parts: Mapping[str, Mapping[str, float]], device: torch.device) -> float | None:
        """FLOPs of a task's training, of all processes; None if they could not be counted.

        Args:
            parts: of the task, with images ``trained`` on and ``passed``.
            device: of the run.
        """
        if self._now is None:
            return None
        counts = (
            sum(int(parts[part][kind]) for part in TRAINING if part in parts)
            for kind in ("trained", "passed")
        )
        trained, passed, looked = (
            total(count, device) for count in (*counts, self.passes.looked - self._looked)
        )
        return self._now[0] * trained + self._now[1] * (passed - looked)

    def _of_copy(self, model: nn.Module) -> tuple[float, float] | None:
        """The same of a copy; None, which is said, if it cannot be had.

        Of tensors that have a shape and no contents: nothing is computed. They have contents where
        a network looks at what it computes, and where computing it takes less time: on a CPU a
        tiny network's shapes take two to four times as long, ResNet-18's as long at 64 pixels.
        """
        small = self.size <= SMALL and next(model.parameters()).device.type == "cpu"
        for copied in (copy.deepcopy,) if small else (_without_contents, copy.deepcopy):
            try:
                return self._of_image(copied(model).eval())
            except Exception as error:  # of a thousand networks, some cannot be copied or counted
                why = reason(error)[:200]
        say(f"Note: FLOPs are not counted ({why}).")
        return None

    def _of_image(self, network: nn.Module) -> tuple[float, float]:
        """FLOPs of an image that is trained on, and of one that passes.

        They are what the second image of two adds: what a pass takes for itself, as LoRA's B·A, is
        no image's.
        """
        one, two = (self._counted(network, images) for images in (1, 2))
        forward, both, passes = (b - a for a, b in zip(one, two, strict=True))
        assert passes, "nothing counts its passes"
        # Prompts look at the image by a frozen network before: that pass is counted as one.
        return both - (passes - 1) * forward / passes, forward / passes

    def _counted(self, network: nn.Module, count: int) -> tuple[float, float, int]:
        """FLOPs of a pass, and of a step, of so many images; the passes of images in it."""
        parameters = [p for p in network.parameters() if p.requires_grad]
        like = next(network.parameters())
        images = torch.zeros(count, 3, self.size, self.size, device=like.device, dtype=like.dtype)
        before = self.passes.trained + self.passes.passed
        # Fused attention of CPUs is not among what the counter knows.
        own: dict[Any, Any] = {torch.ops.aten.convolution_backward: _convolution_backward}
        counter = FlopCounterMode(display=False, custom_mapping=own)
        alone = torch.random.fork_rng([])  # a network may draw numbers
        attention, graph = sdpa_kernel(SDPBackend.MATH), torch.set_grad_enabled(bool(parameters))
        with alone, attention, counter, graph:
            logits: Tensor = network(images)
            forward = float(counter.get_total_flops())
            if parameters:
                torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
        passes = self.passes.trained + self.passes.passed - before
        return forward, float(counter.get_total_flops()), passes


def _without_contents(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers have a shape and no contents."""
    bare: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in model.parameters()
    }
    bare |= {id(b): b.detach().to("meta") for b in model.buffers()}
    return copy.deepcopy(model, bare).to("meta")


def _convolution_backward(
    grad_shape: list[int],
    x_shape: list[int],
    w_shape: list[int],
    bias: object,
    stride: object,
    padding: object,
    dilation: object,
    transposed: bool,
    output_padding: object,
    groups: int,
    output_mask: Sequence[bool],
    out_shape: object = None,
) -> int:
    """Gradients of the input and of the weights take what the way forward takes, each.

    torch's own count of the latter is too large by the number of groups.
    """
    forward = conv_flop_count(x_shape, w_shape, grad_shape, transposed=transposed)
    return int(forward * (output_mask[0] + output_mask[1]))
