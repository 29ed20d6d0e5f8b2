"""Whole streams of 5 tasks against a bare loop that only trains and evaluates.

    python benchmarks/stream_overhead.py

Both learn ten classes in 5 tasks of 2 from the same uint8 images in memory: the same network, first
weights, batches of 64, loss and optimiser; after each task both evaluate all tasks so far. For
clbench that is `clbench.run` with all it writes on the way (record, checkpoints, TensorBoard), from
the first task's beginning until the last task's checkpoint is on the disk. Not timed on either
side: imports, loading data, making the network; nor what a run leaves at its end (exported weights,
tables and pictures), which takes the same whatever the stream.

Seconds are shown twice: of the clock, and of all processors (`time.process_time`), which other
programs on the machine disturb less.

Then what a task takes outside of its steps and its evaluation, of the thread that trains: with
ResNet-18's 11 M weights, and at the end of 200 tasks of one step beside the beginning.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timm
import torch
import torch.nn.functional as F
from pairs import Pair, arguments, show, take_turns
from torch import Tensor, nn

import clbench
import clbench.models  # registers the tiny backbones
from clbench.data.datasets import DATASETS, DataSet, Labelled
from clbench.data.images import from_array
from clbench.learner.learner import Learner
from clbench.record.record import Record
from clbench.runner.tasks import Run
from clbench.seeding import seed_everything

TASKS, PER_TASK, BATCH, EVAL_BATCH, LR, HALF = 5, 2, 64, 256, 0.03, (0.5, 0.5, 0.5)
#: Seconds that a task may take outside of steps and evaluation, with 11 M weights.
MOST = 0.03


def make_data(size: int, steps: int, test: int, tasks: int = TASKS) -> DataSet:
    """Noisy images: enough for ``steps`` steps, and ``test`` to test on, a task."""
    random = np.random.default_rng(0)
    classes = tasks * PER_TASK
    means = random.integers(64, 192, (classes, size, size, 3))

    def part(count: int) -> Labelled:
        labels = np.repeat(np.arange(classes), count // PER_TASK)
        noisy = means[labels] + random.normal(0, 40, (len(labels), size, size, 3))
        return Labelled(noisy.clip(0, 255).astype(np.uint8), labels)

    return DataSet("synthetic", part(steps * BATCH), part(test), tuple(map(str, range(classes))))


@dataclass
class Watched:
    """What was seen of a run.

    Attributes:
        record: of the run.
        seconds: of the clock, from the first task until the last checkpoint is on the disk.
        cpu: the same, of all processors.
        outside: of each task, seconds of the clock outside of its steps and its test.
        own_cpu: the same, of the training thread's processor.
    """

    record: Record
    seconds: float = 0.0
    cpu: float = 0.0
    outside: list[float] = field(default_factory=list)
    own_cpu: list[float] = field(default_factory=list)


def clocks() -> tuple[float, float, float]:
    """Seconds of the clock, of all processors, and of this thread's."""
    return time.perf_counter(), time.process_time(), time.thread_time()


class Watch:
    """Notes when parts of a run begin and end; it looks on from outside."""

    def __init__(self) -> None:
        self.marks: list[tuple[str, tuple[float, float, float]]] = []

    def __enter__(self) -> Watch:
        self.patches = contextlib.ExitStack()
        for owner, name in (
            (Run, "learn"),
            (Run, "_learn"),  # of one task
            (Learner, "training_step"),
            (Learner, "optimizer_step"),
            (clbench.measure.meter.Meter, "test"),
        ):
            self._around(owner, name)
        self._around(clbench.runner.tasks, "finish")
        return self

    def __exit__(self, *_: object) -> None:
        self.patches.close()

    def _around(self, owner: Any, name: str) -> None:
        act = getattr(owner, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.marks.append((name, clocks()))
            found = act(*args, **kwargs)
            self.marks.append((f"{name} done", clocks()))
            return found

        self.patches.enter_context(mock.patch.object(owner, name, noted))

    def seen(self, record: Record) -> Watched:
        """What the marks say of a run that is over."""
        first = next(at for name, at in self.marks if name == "learn")
        last = next(at for name, at in self.marks if name == "finish")
        watched = Watched(record, last[0] - first[0], last[1] - first[1])
        for part in self._by_task():
            begun, over = part[0][1], part[-1][1]
            steps = [at for name, at in part if name in ("training_step", "optimizer_step done")]
            tests = [at for name, at in part if name in ("test", "test done")]
            for of, spent in ((0, watched.outside), (2, watched.own_cpu)):
                inside = steps[-1][of] - steps[0][of] + tests[-1][of] - tests[0][of]
                spent.append(over[of] - begun[of] - inside)
        return watched

    def _by_task(self) -> Iterator[list[tuple[str, tuple[float, float, float]]]]:
        names = [name for name, _ in self.marks]
        begun = [place for place, name in enumerate(names) if name == "_learn"]
        over = [place + 1 for place, name in enumerate(names) if name == "_learn done"]
        yield from (self.marks[a:b] for a, b in zip(begun, over, strict=True))


def with_clbench(data: DataSet, backbone: str, tasks: int = TASKS, **values: Any) -> Watched:
    """Run the stream."""
    size = data.train.images.shape[1]
    recipe = {
        "stream": {
            "name": "split_digits",
            "tasks": tasks,
            "pretrain_classes": [],
            "validation": 0.0,
        },
        "images": {"size": size, "mean": HALF, "std": HALF},
        "model": {"backbone": backbone, "weights": "none"},
        "optimizer": {"name": "sgd", "lr": LR, "momentum": 0.0},
        "epochs": 1,
        "batch_size": BATCH,
        "eval_batch_size": EVAL_BATCH,
        "train_logits": "all",
        "retention": {"data": "none"},
        "trainer": {"accelerator": "cpu"},
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(DATASETS, {"digits": lambda root, download: data}),
        mock.patch("clbench.runner.outputs.write", return_value=[]),
        mock.patch("clbench.runner.screen.show"),
        contextlib.redirect_stdout(io.StringIO()),
        Watch() as watch,
    ):
        return watch.seen(clbench.run(recipe | values, Path(folder) / "run"))


def fresh(backbone: str, classes: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network as clbench makes it for seed 0, and its optimiser."""
    seed_everything(0)
    model = timm.create_model(backbone, num_classes=classes)
    return model, torch.optim.SGD(model.parameters(), LR, fused=True)


class Bare:
    """A loop that trains and evaluates, and nothing else.

    Args:
        data: of the stream.
        backbone: timm's name of the network.
    """

    def __init__(self, data: DataSet, backbone: str) -> None:
        self.backbone, self.classes = backbone, len(data.classes)
        self.train, self.test = self._by_task(data.train), self._by_task(data.test)
        std, mean = (torch.tensor(HALF).view(3, 1, 1) for _ in range(2))
        self.scale, self.shift = 1 / (255 * std), -mean / std

    def _by_task(self, part: Labelled) -> list[tuple[Tensor, Tensor]]:
        images, labels = from_array(part.images).tensor, torch.from_numpy(part.labels)
        mine = [labels // PER_TASK == task for task in range(self.classes // PER_TASK)]
        return [(images[one], labels[one]) for one in mine]

    def _inputs(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images.float(), self.scale)

    def run(self) -> tuple[float, float, float]:
        """Seconds of the clock and of all processors; mean accuracy after the last task."""
        model, optimizer = fresh(self.backbone, self.classes)
        began, cpu = time.perf_counter(), time.process_time()
        for task, (images, labels) in enumerate(self.train):
            model.train()
            for index in torch.randperm(len(labels)).split(BATCH):
                loss = F.cross_entropy(model(self._inputs(images[index])), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            accuracy = [self._accuracy(model, *self.test[past]) for past in range(task + 1)]
        spent = time.perf_counter() - began, time.process_time() - cpu
        return *spent, statistics.mean(accuracy)

    @torch.inference_mode()
    def _accuracy(self, model: nn.Module, images: Tensor, labels: Tensor) -> float:
        right = 0
        for some, theirs in zip(images.split(EVAL_BATCH), labels.split(EVAL_BATCH), strict=True):
            right += int((model(self._inputs(some)).argmax(1) == theirs).sum())
        return right / len(labels)


def compare(backbone: str, size: int, steps: int, test: int, rounds: int) -> list[Pair]:
    """Time both in turns; each task has ``steps`` steps and ``test`` test images."""
    data = make_data(size, steps, test)
    bare = Bare(data, backbone)
    cpu: tuple[list[float], list[float]] = ([], [])

    def ours() -> float:
        seen = with_clbench(data, backbone)
        assert seen.record.tasks[-1].last_step == steps * TASKS
        cpu[0].append(seen.cpu)
        return seen.seconds

    def theirs() -> float:
        seconds, spent, _ = bare.run()
        cpu[1].append(spent)
        return seconds

    mine, others = take_turns(ours, theirs, rounds)
    what = f"{backbone} {size}×{size}, {steps} steps a task"
    return [
        Pair(f"{what}, clock", mine, others, at_most=1.05),
        Pair(f"{what}, processors", cpu[0][1:], cpu[1][1:], at_most=1.05),  # without the warm-up
    ]


def outside(rounds: int) -> list[Pair]:
    """What a task of ResNet-18 takes outside of steps and evaluation; the first one is left out."""
    data = make_data(32, 8, 50)
    runs = [with_clbench(data, "resnet18") for _ in range(1 + rounds)][1:]
    kinds: list[tuple[str, Callable[[Watched], list[float]]]] = [
        ("clock", lambda seen: seen.outside),
        ("processor", lambda seen: seen.own_cpu),
    ]
    return [
        Pair(
            f"a task of resnet18 outside of steps and tests, {name}",
            [taken for seen in runs for taken in of(seen)[1:]],
            [MOST] * (TASKS - 1) * rounds,
            unit="task",
            at_most=1.0,
        )
        for name, of in kinds
    ]


def growth(tasks: int = 200, some: int = 10) -> list[Pair]:
    """The same of the last of many tasks of one step, beside the first but two."""
    data = make_data(8, 1, 4, tasks)
    seen = with_clbench(data, "tiny_cnn", tasks, steps=1, epochs=None)
    return [
        Pair(
            f"tasks {tasks - some + 1}–{tasks} outside of steps and tests, {name}",
            taken[-some:],
            taken[2 : 2 + some],
            unit="task",
            at_most=1.2,
        )
        for name, taken in (("clock", seen.outside), ("processor", seen.own_cpu))
    ]


#: Network, steps a task, and whether one step is so long that half the rounds do.
CASES = (
    ("tiny_cnn", 8, False),
    ("resnet18", 8, False),
    ("tiny_cnn", 100, True),
    ("resnet18", 100, True),
)


def main() -> int:
    """Measure, print each part once it is there, and return the exit code."""
    rounds = arguments(__doc__, rounds=5).rounds
    codes = [show(outside(rounds), f"{MOST:g} s"), show(growth(), "tasks 3–12")]
    for backbone, steps, long in CASES:
        pairs = compare(backbone, 32, steps, 50, max(1, rounds // 2) if long else rounds)
        codes.append(show(pairs, "bare loop"))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
