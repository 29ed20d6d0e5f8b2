"""A stream of 5 tasks with clbench against avalanche-lib's Naive strategy.

    python benchmarks/stream_vs_avalanche.py

Both learn ten classes in 5 tasks of 2 with plain fine-tuning, 4 steps of 64 images a task
(ResNet-18: 8): the same network, first weights, uint8 images, loss, optimiser and schedule; after
each task both evaluate all tasks so far. Timed on both sides: from the first task's beginning to
the end of the last task's evaluation. For clbench that is `clbench.run` with all it writes on the
way (record, checkpoints for resume, TensorBoard). Avalanche has no workers, no loggers, and
accuracy as its only metric; it gets its images in one of two ways:

- usual: PIL images, `ToTensor` and `Normalize`, as from its own benchmark classes;
- ready: normalised float tensors in memory, a step that clbench makes within its time.

Not timed on either side: imports, loading data, making the network, and clbench's report at the
end (tables and pictures, about a second whatever the stream).

What bounds the ratio is the network's own computing, which is the same on both sides: a bare loop
over ready tensors, printed above the table, is as fast as any tool can be. Hence the goal of 3
times faster is for the tiny CNN on small images; larger ones are shown as well. ResNet-18 may not
be slower; 3 % are left for noise.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timm
import torch
import torch.nn.functional as F
from pairs import Pair, arguments, show, take_turns
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from torchvision import transforms as tv

import clbench
import clbench.models  # registers the tiny backbones
from clbench.data.datasets import DATASETS, DataSet, Labelled
from clbench.data.images import from_array
from clbench.data.transforms import Augment, Transform
from clbench.record.recorder import Recorder
from clbench.seeding import seed_everything

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import as_classification_dataset
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive

TASKS, CLASSES, BATCH, EVAL_BATCH, LR, HALF = 5, 10, 64, 256, 0.03, (0.5, 0.5, 0.5)


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


def make_data(size: int, steps: int, test: int) -> DataSet:
    """Noisy images of ten classes: enough for ``steps`` steps, and ``test`` to test on, a task."""
    random = np.random.default_rng(0)
    means = random.integers(64, 192, (CLASSES, size, size, 3))

    def part(count: int) -> Labelled:
        labels = np.repeat(np.arange(CLASSES), count * TASKS // CLASSES)
        noisy = means[labels] + random.normal(0, 40, (len(labels), size, size, 3))
        return Labelled(noisy.clip(0, 255).astype(np.uint8), labels)

    return DataSet("synthetic", part(steps * BATCH), part(test), tuple("0123456789"))


def by_task(labelled: Labelled, usual: bool) -> Parts:
    """A part of the data as Avalanche gets it, task by task."""
    parts: Parts = []
    for task in range(TASKS):
        mine = labelled.labels // (CLASSES // TASKS) == task
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


def with_clbench(data: DataSet, backbone: str) -> tuple[float, int, float]:
    """Run the stream: seconds, training steps, mean accuracy on all tasks after the last."""
    size = data.train.images.shape[1]
    recipe = {
        "stream": {
            "name": "split_digits",
            "tasks": TASKS,
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
    clock: dict[str, float] = {}
    add = Recorder.add

    def noting(self: Recorder, event: str, **values: Any) -> None:
        if event == "end":  # the last task is evaluated, recorded and kept
            clock[event] = time.perf_counter()
        add(self, event, **values)
        clock.setdefault(event, time.perf_counter())

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(DATASETS, {"digits": lambda root, download: data}),
        mock.patch.object(Recorder, "add", noting),
        mock.patch("clbench.runner.outputs.write"),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        record = clbench.run(recipe, Path(folder) / "run")
    accuracy = record.tasks[-1].class_incremental
    steps = record.tasks[-1].last_step
    return clock["end"] - clock["pretrained"], steps, sum(accuracy) / len(accuracy)


def with_avalanche(train: Parts, test: Parts, backbone: str) -> tuple[float, int, float]:
    """The same with avalanche-lib."""
    benchmark = benchmark_from_datasets(
        train=[as_classification_dataset(part) for part in train],
        test=[as_classification_dataset(part) for part in test],
    )
    model, optimizer = fresh(backbone)
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


def bare(train: Parts, test: Parts, backbone: str) -> float:
    """Seconds of a plain loop over ready tensors."""
    model, optimizer = fresh(backbone)
    began = time.perf_counter()
    for task, part in enumerate(train):
        inputs, labels = part.tensors
        model.train()
        for index in torch.randperm(len(labels)).split(BATCH):
            loss = F.cross_entropy(model(inputs[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            for seen in test[: task + 1]:
                for inputs in seen.tensors[0].split(EVAL_BATCH):
                    model(inputs).argmax(1)
    return time.perf_counter() - began


def fresh(backbone: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network as clbench makes it for seed 0, and its optimiser."""
    seed_everything(0)
    model = timm.create_model(backbone, num_classes=CLASSES)
    return model, torch.optim.SGD(model.parameters(), LR, fused=True)


def compare(
    backbone: str, size: int, steps: int, test: int, usual: bool, rounds: int, goal: float | None
) -> Pair:
    """Time both in turns; each task has ``steps`` steps and ``test`` test images."""
    data = make_data(size, steps, test)
    parts = by_task(data.train, usual), by_task(data.test, usual)
    outcomes: dict[str, tuple[float, int, float]] = {}

    def ours() -> float:
        outcomes["clbench"] = with_clbench(data, backbone)
        return outcomes["clbench"][0]

    def theirs() -> float:
        outcomes["avalanche"] = with_avalanche(*parts, backbone)
        return outcomes["avalanche"][0]

    mine, others = take_turns(ours, theirs, rounds)
    ready = by_task(data.train, False), by_task(data.test, False)
    floor = statistics.median(bare(*ready, backbone) for _ in range(3))
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
            compare("tiny_cnn", 8, 4, 2000, False, rounds, None),
            compare("tiny_cnn", 32, 4, 200, True, rounds, None),
            compare("tiny_cnn", 32, 4, 200, False, rounds, None),
            compare("resnet18", 32, 8, 50, False, rounds, 0.97),
        ],
        "avalanche Naive",
    )


if __name__ == "__main__":
    sys.exit(main())
