"""What passes over its data at the end of a task, or in a step, against the bare pass.

    python benchmarks/one_pass.py [--rounds 5] [--threads 1]

A probe and herding see their task's images once, as kNN does, GEM its memories with gradients. Each
is timed against the same images through the same ResNet-18 in the same batches, without anything
else. The goal is 1.1 times as much; what is timed is the time that the process computes, not the
clock's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from pairs import Pair, arguments, show, take_turns
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.measure.evaluate import Evaluator
from clbench.methods.base import Context
from clbench.methods.gem import GEM
from clbench.methods.icarl import ICaRL
from clbench.methods.knn import NearestNeighbours
from clbench.models.anchors import Anchor, Anchors
from clbench.models.backbone import features
from clbench.models.loss import ClassLoss
from clbench.models.settings import Probe
from clbench.models.training import train_head
from clbench.streams import Task
from clbench.weights import snapshot

CLASSES, IMAGES, EXEMPLARS, MEMORIES, SIZE, BATCH = 10, 512, 128, 3, 64, 64
HALF = (0.5, 0.5, 0.5)


def made(model: nn.Module) -> Context:
    """A task of random images."""
    pixels = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), dtype=torch.uint8)
    labels, rows = torch.arange(IMAGES) % CLASSES, torch.ones(CLASSES, dtype=torch.bool)
    split = Split(TensorImages(pixels), torch.arange(IMAGES), labels)
    anchor = Anchor(snapshot(model), rows)
    return Context(
        task=Task(0, "a task", range(CLASSES), split, split, split),
        model=model,
        head=("fc.weight", "fc.bias"),
        anchors=Anchors(anchor, anchor),
        total_steps=1,
        reader=Reader(Transform(SIZE, HALF, HALF, Augment()), BATCH, 0),
        losses=ClassLoss("all", labels, torch.zeros(CLASSES, dtype=torch.int64), rows),
        seed=0,
        batch_size=BATCH,
    )


def looks(context: Context, *counts: int) -> None:
    """Bare passes of features, of so many images each."""
    context.model.eval()
    for count in counts:
        pixels = context.task.train.images.take(torch.arange(count))
        with torch.no_grad():
            for part in pixels.split(BATCH):
                features(context.model, context.reader.transform.test(part))


def differentiate(context: Context, images: int) -> None:
    """The bare pass with gradients, which are added up."""
    context.model.train()
    pixels, labels = context.task.train.images.take(torch.arange(images)), context.task.train.labels
    for part, theirs in zip(pixels.split(BATCH), labels[:images].split(BATCH), strict=True):
        loss = F.cross_entropy(context.model(context.reader.transform.test(part)), theirs)
        loss.backward()


def knn(context: Context) -> None:
    """Features are kept of the task, and as many images classified."""
    method = NearestNeighbours()
    method.absorb(snapshot(context.model), context)
    evaluator = Evaluator(context.reader, (), method.classifier)
    seen, owner = torch.ones(CLASSES, dtype=torch.bool), torch.zeros(CLASSES, dtype=torch.int64)
    evaluator.accuracy(context.model, [context.task.test], owner, seen)


def gem(context: Context) -> Callable[[], None]:
    """A step's projection, with memories of some tasks."""
    method, split = GEM(samples=EXEMPLARS), context.task.train
    method.start(context)
    method._index = list(split.index[: MEMORIES * EXEMPLARS].split(EXEMPLARS))
    method._labels = list(split.labels[: MEMORIES * EXEMPLARS].split(EXEMPLARS))
    gradients: list[Tensor] = [torch.randn_like(p) for p in context.model.parameters()]

    def project() -> None:
        context.model.train()
        for parameter, gradient in zip(context.model.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        method.project(context.model)

    return project


def computing(work: Callable[[], None]) -> Callable[[], float]:
    """Seconds that the process computes in some work."""

    def run() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return run


def main() -> int:
    """Measure, print, and return the exit code."""
    options = arguments(__doc__, rounds=5)
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=CLASSES)
    context = made(model)

    def probe() -> None:
        train_head(model, context.task, context.reader, Probe(), 0)

    def herd() -> None:
        ICaRL(size=EXEMPLARS).absorb(snapshot(model), context)

    works = {
        "linear probe, 20 epochs": (probe, lambda: looks(context, IMAGES)),
        "knn, kept and classified": (
            lambda: knn(context),
            lambda: looks(context, IMAGES, IMAGES),
        ),
        "herding": (herd, lambda: looks(context, IMAGES)),
        f"gem, {MEMORIES} memories": (
            gem(context),
            lambda: differentiate(context, MEMORIES * EXEMPLARS),
        ),
    }
    pairs = []
    for name, (ours, theirs) in works.items():
        mine, bare = take_turns(computing(ours), computing(theirs), options.rounds)
        pairs.append(Pair(name, mine, bare, at_most=1.1))
        print(f"{name}: {sorted(pairs[-1].ratios)}", file=sys.stderr, flush=True)
    return show(pairs, "bare pass")


if __name__ == "__main__":
    sys.exit(main())
