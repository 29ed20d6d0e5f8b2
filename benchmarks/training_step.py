"""Time of a training step with clbench against a bare PyTorch loop on the same tensors.

    python benchmarks/training_step.py

clbench's side is what a run does: the Learner in a Lightning Trainer with progress and TensorBoard,
fed by Batches from uint8 images in memory. The bare side slices the same images by the same kind of
shuffled index, normalises them in the same way, and makes the same step. They take turns epoch by
epoch within one `fit` (the bare epoch runs in a pause of the Trainer, whose clock stands still).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from pairs import Pair, arguments, show
from torch import Tensor, nn

import clbench.models  # noqa: F401  (registers the tiny backbones)
from clbench.data.batches import Batches, Examples, Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.learner.learner import Learner
from clbench.learner.trainer import make_trainer, quiet
from clbench.measure.loggers import Loggers
from clbench.methods.base import Context
from clbench.models.anchors import Anchor, Anchors
from clbench.models.loss import ClassLoss
from clbench.recipe.recipe import Recipe, parse
from clbench.seeding import seed_everything
from clbench.streams import Task
from clbench.weights import snapshot

CLASSES, BATCH, LR, MOMENTUM, HALF = 10, 64, 0.01, 0.9, (0.5, 0.5, 0.5)


class Turns:
    """Called after every step of clbench: times epochs, and runs a bare one after each.

    Args:
        steps: steps of an epoch.
        bare: trains for one epoch.
    """

    def __init__(self, steps: int, bare: Bare) -> None:
        self.steps, self.bare = steps, bare
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.began: float | None = None

    def __call__(self, step: int) -> None:
        if step % self.steps:
            return
        now = time.perf_counter()
        if self.began is not None:  # the first epoch warms up
            self.ours.append(now - self.began)
        began = time.perf_counter()
        self.bare.epoch()
        if self.began is not None:
            self.theirs.append(time.perf_counter() - began)
        self.began = time.perf_counter()


class Bare:
    """A plain training loop.

    Args:
        model: the network.
        images: uint8 (N, 3, S, S).
        labels: int64 (N,).
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        self.model, self.images, self.labels = model.train(), images, labels
        self.optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM, fused=True)
        std, mean = (torch.tensor(HALF).view(3, 1, 1) for _ in range(2))
        self.scale, self.shift = 1 / (255 * std), -mean / std

    def epoch(self) -> None:
        """Every image once."""
        for index in torch.randperm(len(self.labels)).split(BATCH):
            inputs = torch.addcmul(self.shift, self.images[index].float(), self.scale)
            loss = F.cross_entropy(self.model(inputs), self.labels[index])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def compare(backbone: str, size: int, steps: int, rounds: int, goal: float) -> Pair:
    """Time epochs of ``steps`` steps on both sides."""
    seed_everything(0)
    images = torch.randint(0, 256, (steps * BATCH, 3, size, size), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (len(images),))
    recipe = parse(
        {
            "stream": {"name": "split_digits"},
            "images": {"size": size},
            "model": {"backbone": backbone, "weights": "none"},
            "optimizer": {"name": "sgd", "lr": LR, "momentum": MOMENTUM},
            "epochs": rounds + 1,
            "batch_size": BATCH,
            "train_logits": "all",
            "trainer": {"accelerator": "cpu"},
        }
    )
    models = [timm.create_model(backbone, num_classes=CLASSES) for _ in range(2)]
    turns = Turns(steps, Bare(models[1], images, labels))
    with tempfile.TemporaryDirectory() as folder:
        _fit(recipe, models[0], images, labels, turns, folder)
    what = f"{backbone} {size}×{size}, batch {BATCH}"
    return Pair(what, turns.ours, turns.theirs, steps, "step", at_most=goal)


def _fit(
    recipe: Recipe, model: nn.Module, images: Tensor, labels: Tensor, turns: Turns, folder: str
) -> None:
    split = Split(TensorImages(images), torch.arange(len(images)), labels)
    batches = Batches(Examples(split), BATCH, (0,))
    learned = torch.ones(CLASSES, dtype=torch.bool)
    anchor = Anchor(snapshot(model), learned)
    assert recipe.epochs is not None
    context = Context(
        task=Task(0, "a task", range(CLASSES), split, split, split),
        model=model,
        head=("fc.weight", "fc.bias"),
        anchors=Anchors(anchor, anchor),
        total_steps=recipe.epochs * len(batches),
        reader=Reader(Transform(images.shape[-1], HALF, HALF, Augment())),
        losses=ClassLoss("all", labels, torch.zeros(CLASSES, dtype=torch.int64), learned),
        seed=0,
        batch_size=BATCH,
    )
    learner = Learner(context, [], recipe, on_step=turns)
    model.train()
    logger = Loggers(Path(folder) / "run", recipe)
    trainer = make_trainer(recipe, context.total_steps, "Task 1/1", logger)
    trainer.fit(learner, train_dataloaders=batches)
    logger.close()


def main() -> int:
    """Measure, print, and return the exit code."""
    options = arguments(__doc__, rounds=15)
    quiet()
    return show(
        [
            compare("tiny_cnn", 32, 20, options.rounds, 1.10),
            compare("resnet18", 32, 4, options.rounds, 1.03),
        ],
        "bare loop",
    )


if __name__ == "__main__":
    sys.exit(main())
