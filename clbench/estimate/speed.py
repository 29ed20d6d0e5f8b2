"""What a network takes by itself: time and memory of a batch, of its optimiser and of a copy.

A few real steps on a few images tell both. A batch is a part that it takes anyway and one for each
image: a batch of 2 costs EfficientNet on a CPU a third of a batch of 20, and on a GPU as much.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.transforms import DRAWS, Transform
from clbench.learner.trainer import make_trainer
from clbench.methods.base import Method, overriding
from clbench.models.modes import evaluating
from clbench.optim.settings import make_optimizer
from clbench.recipe.recipe import Recipe
from clbench.runner.network import Network
from clbench.streams import Stream
from clbench.weights import snapshot

#: Two sizes of a batch; the second only if the first takes less than this many seconds.
FEW, MORE, SLOW = 2, 16, 0.1


class Line(NamedTuple):
    """Seconds or bytes of a batch.

    Attributes:
        fixed: what it takes anyway.
        each: what every image adds.
    """

    fixed: float
    each: float

    def of(self, images: float) -> float:
        """Of a batch of so many images; no batch takes nothing."""
        return self.fixed + self.each * images if images > 0 else 0.0


class Pace(NamedTuple):
    """Seconds of a batch, from stored images on.

    Attributes:
        train: forward and backward.
        test: forward only, without augmentation.
    """

    train: Line
    test: Line


@dataclass(frozen=True)
class Speed:
    """What a network takes.

    Attributes:
        device: where it was measured.
        pace: seconds of batches.
        make: seconds to make it.
        update: seconds of an optimiser's step.
        copy: seconds to copy its weights.
        write: seconds to write them to disk.
        parameters: numbers.
        bytes: of ``parameters``, ``gradients`` and ``optimizer``.
        saved: bytes a training batch keeps for the backward pass.
        largest: bytes of the largest tensor between two layers, of an image.
    """

    device: torch.device
    pace: Pace
    make: float
    update: float
    copy: float
    write: float
    parameters: int
    bytes: dict[str, int]
    saved: Line
    largest: float


def measure(recipe: Recipe, stream: Stream, methods: Sequence[Method], trunk: bool) -> Speed:
    """Measure a recipe's network, with random weights: their values do not change the time.

    Args:
        recipe: on one device.
        stream: gives the number of classes, and images.
        methods: what they change of the network, of what is trained and of the optimiser counts.
        trunk: whether more than the head is trained.
    """
    began = time.perf_counter()
    trainer = make_trainer(recipe, 1)
    device = trainer.strategy.root_device
    autocast = trainer.precision_plugin.forward_context
    network = Network(recipe, stream, device, device, autocast)
    make = time.perf_counter() - began
    copy, _ = timed(partial(snapshot, network.model), device)
    write = _writing(network.model)
    parameters = list(network.model.parameters())
    model = network.model.train()
    for method in overriding(methods, "surgery"):
        model = method.surgery(model)
    transform = network.transform(recipe)
    split = stream.tasks[0].train
    stream.open(stream.tasks[0], past=False)
    saved, largest = _kept(model, split, transform, device, autocast)
    restrict = [m for m in overriding(methods, "trainable") if trunk]
    named = []
    for name, parameter in model.named_parameters():
        trained = name in network.head or (trunk and all(m.trainable(name) for m in restrict))
        parameter.requires_grad_(trained)
        named += [(name, parameter)] * trained
    if len(named) < len(list(model.parameters())):
        saved, _ = _kept(model, split, transform, device, autocast)
    speeds = pace(model, split, transform, device, autocast)
    own = overriding(methods, "optimizer")
    optimizer = own[0].optimizer(named, recipe.optimizer) if own else None
    if optimizer is None:
        optimizer = make_optimizer(recipe.optimizer, [parameter for _, parameter in named], False)
    update = min(timed(optimizer.step, device)[0] for _ in range(2))
    return Speed(
        device=device,
        pace=speeds,
        make=make,
        update=update,
        copy=copy,
        write=write,
        parameters=sum(p.numel() for p in parameters),
        bytes={
            "parameters": _bytes(parameters),
            "gradients": _bytes([parameter for _, parameter in named]),
            "optimizer": _bytes([x for s in optimizer.state.values() for x in s.values()]),
        },
        saved=saved,
        largest=largest,
    )


def timed(work: Callable[[], object], device: torch.device | None = None) -> tuple[float, object]:
    """Seconds that something takes, and what it returns."""
    began = now(device)
    result = work()
    return now(device) - began, result


def now(device: torch.device | None = None) -> float:
    """Seconds on the clock once the device is through with its work."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def pace(
    model: nn.Module,
    split: Split,
    transform: Transform,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> Pace:
    """Seconds of a training step without its optimiser, and of an evaluation.

    Args:
        model: in training mode; it is left with gradients.
        split: where the images come from.
        transform: their way into the network.
        device: where the model is.
        autocast: what the forward pass runs in.
    """

    def once(images: int) -> tuple[float, float]:
        def test() -> None:
            with evaluating(model), torch.inference_mode(), autocast():
                model(transform.test(_take(split, images).to(device)))

        def train() -> None:
            inputs = transform.train(_take(split, images).to(device), draws)
            with autocast():
                loss = model(inputs).float().sum()
            loss.backward()

        draws = torch.rand(images, DRAWS, device=device)
        trains, tests = list[float](), list[float]()
        while len(trains) < 2 or (len(trains) < 10 and sum(trains) < 0.4):  # the first warms up
            trains.append(timed(train, device)[0])
            tests.append(timed(test, device)[0])
        return min(trains), min(tests)

    few = once(FEW)
    if few[0] > SLOW:
        return Pace(*(Line(0.0, seconds / FEW) for seconds in few))
    return Pace(*(line(a, b) for a, b in zip(few, once(MORE), strict=True)))


def line(few: float, more: float, sizes: tuple[int, int] = (FEW, MORE)) -> Line:
    """Through two measurements: neither part is negative, and an image takes something."""
    each = max((more - few) / (sizes[1] - sizes[0]), 0.01 * few)
    return Line(max(0.0, few - sizes[0] * each), each)


def _take(split: Split, images: int) -> Tensor:
    return split.images.take(split.index[torch.arange(images) % len(split)])


def _kept(
    model: nn.Module,
    split: Split,
    transform: Transform,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[Line, float]:
    """Bytes kept for the backward pass, and of the largest tensor among them, of an image."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def kept(images: int) -> dict[int, int]:
        found: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        inputs = transform.test(_take(split, images).to(device))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), autocast():
            loss = model(inputs).float().sum()
        del loss
        return found

    few, more = kept(FEW), kept(2 * FEW)
    largest = max([*more.values(), 0]) / (2 * FEW)
    return line(sum(few.values()), sum(more.values()), (FEW, 2 * FEW)), largest


def _writing(model: nn.Module) -> float:
    """Seconds to write the weights to disk."""

    def write() -> None:
        with tempfile.TemporaryFile(dir=Path(tempfile.gettempdir())) as file:
            torch.save(model.state_dict(), file)
            file.flush()

    return timed(write)[0]


def _bytes(tensors: Sequence[object]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors if isinstance(x, Tensor))
