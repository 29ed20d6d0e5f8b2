"""A stream of 5 tasks with clbench against avalanche-lib's Naive strategy.

    python benchmarks/stream_vs_avalanche.py

Both learn ten classes in 5 tasks of 2 with plain fine-tuning, 4 steps of 64 images a task
(ResNet-18: 8): the same network, first weights, uint8 images, loss, optimiser and schedule; after
each task both evaluate all tasks so far. Timed on both sides: from the first task's beginning to
the end of the last task's evaluation. For clbench that is `clbench.run` with all it writes on the
way (record, TensorBoard, checkpoints for resume, the last one on the disk). Avalanche has no
workers, no loggers, and accuracy as its only metric; it gets its images in one of two ways:

- usual: PIL images, `ToTensor` and `Normalize`, as from its own benchmark classes;
- ready: normalised float tensors in memory, a step that clbench makes within its time.

Not timed on either side: imports, loading data, making the network, and what clbench leaves at the
end (exported weights, tables and pictures, about a second whatever the stream).

What bounds the ratio is the network's own computing, which is the same on both sides: a bare loop
over images in memory, printed above the table, is as fast as any tool can be. Hence the goal of 3
times faster is for usual images and the tiny CNN on small ones. On ready tensors clbench may not be
slower.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings

import numpy as np
import torch
from pairs import Pair, arguments, show, take_turns
from PIL import Image
from stream_overhead import (
    BATCH,
    EVAL_BATCH,
    HALF,
    PER_TASK,
    TASKS,
    Bare,
    fresh,
    make_data,
    with_clbench,
)
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from torchvision import transforms as tv

from clbench.data.datasets import Labelled
from clbench.data.images import from_array
from clbench.data.transforms import Augment, Transform

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import as_classification_dataset
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive

Parts = list[Dataset[tuple[Tensor, int]]]


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets hand them out, with the usual transforms."""

    transform = tv.Compose([tv.ToTensor(), tv.Normalize(HALF, HALF)])

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.targets = images, labels.tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


def by_task(labelled: Labelled, usual: bool) -> Parts:
    """A part of the data as Avalanche gets it, task by task."""
    parts: Parts = []
    for task in range(TASKS):
        mine = labelled.labels // PER_TASK == task
        images, labels = labelled.images[mine], labelled.labels[mine]
        if usual:
            parts.append(Pictures(images, labels))
        else:
            size = images.shape[1]
            inputs = Transform(size, HALF, HALF, Augment()).test(from_array(images).tensor)
            ready = TensorDataset(inputs, torch.from_numpy(labels))
            ready.targets = labels.tolist()
            parts.append(ready)
    return parts


def with_avalanche(train: Parts, test: Parts, backbone: str) -> tuple[float, int, float]:
    """The same with avalanche-lib."""
    benchmark = benchmark_from_datasets(
        train=[as_classification_dataset(part) for part in train],
        test=[as_classification_dataset(part) for part in test],
    )
    model, optimizer = fresh(backbone, PER_TASK * TASKS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = EvaluationPlugin(accuracy_metrics(experience=True), loggers=[])
    strategy = Naive(
        model=model,
        optimizer=optimizer,
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH,
        train_epochs=1,
        eval_mb_size=EVAL_BATCH,
        evaluator=evaluator,
    )
    began = time.perf_counter()
    for experience in benchmark.train_stream:
        strategy.train(experience, num_workers=0)
        seen = benchmark.test_stream[: experience.current_experience + 1]
        metrics = strategy.eval(seen, num_workers=0)
    seconds = time.perf_counter() - began
    assert len(metrics) == TASKS
    return seconds, strategy.clock.train_iterations, sum(metrics.values()) / TASKS


def compare(
    backbone: str, size: int, steps: int, test: int, usual: bool, rounds: int, goal: float | None
) -> Pair:
    """Time both in turns; each task has ``steps`` steps and ``test`` test images."""
    data = make_data(size, steps, test)
    parts = by_task(data.train, usual), by_task(data.test, usual)
    outcomes: dict[str, tuple[float, int, float]] = {}

    def ours() -> float:
        seen = with_clbench(data, backbone)
        last = seen.record.tasks[-1]
        outcomes["clbench"] = seen.seconds, last.last_step, statistics.mean(last.class_incremental)
        return seen.seconds

    def theirs() -> float:
        outcomes["avalanche"] = with_avalanche(*parts, backbone)
        return outcomes["avalanche"][0]

    mine, others = take_turns(ours, theirs, rounds)
    bare = Bare(data, backbone)
    floor = statistics.median(bare.run()[0] for _ in range(3))
    (_, all_steps, accuracy), (_, same_steps, other) = outcomes["clbench"], outcomes["avalanche"]
    assert all_steps == same_steps == steps * TASKS, f"{all_steps} steps against {same_steps}"
    what = f"{backbone} {size}×{size}, {test} test images, {'usual' if usual else 'ready'}"
    print(f"{what}: bare loop {floor:.2f} s, accuracies {accuracy:.1%} and {other:.1%}", flush=True)
    return Pair(what, mine, others, at_least=goal)


def main() -> int:
    """Measure, print, and return the exit code."""
    rounds = arguments(__doc__, rounds=4).rounds
    return show(
        [
            compare("tiny_cnn", 8, 4, 2000, True, rounds, 3.0),
            compare("tiny_cnn", 8, 4, 2000, False, rounds, 1.0),
            compare("tiny_cnn", 32, 4, 200, True, rounds, None),
            compare("tiny_cnn", 32, 4, 200, False, rounds, 1.0),
            compare("resnet18", 32, 8, 50, False, rounds, 1.0),
        ],
        "avalanche Naive",
    )


if __name__ == "__main__":
    sys.exit(main())
