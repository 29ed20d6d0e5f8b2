"""A run on a device, and the same without clbench, for `gpu.py`; measures nothing itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.learner.learner import Learner
from clbench.models import backbone
from clbench.recipe.recipe import Recipe, parse
from clbench.runner.setup import Setup
from clbench.runner.tasks import Run

#: Mean and standard deviation of the channels.
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Case:
    """A network, the side of its images and its batch size; final."""

    backbone: str
    size: int
    batch: int

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.backbone}, batch {self.batch}"


class Bench:
    """A case on a device, in a folder of its own; final.

    Args:
        case: what is trained.
        accelerator: ``gpu`` or ``cpu``.
        rounds: pairs to measure.
        folder: for data and runs.
    """

    def __init__(self, case: Case, accelerator: str, rounds: int, folder: Path) -> None:
        self.case, self.accelerator, self.rounds, self.folder = case, accelerator, rounds, folder
        self.device = torch.device("cuda" if accelerator == "gpu" else "cpu")
        self.runs = 0

    def recipe(self, steps: int) -> Recipe:
        """Two tasks of five digits, 640 images each, so that batches are all of one size."""
        stream = {"classes": [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]], "pretrain_classes": []}
        few = {"train_per_class": 128, "test_per_class": 16, "validation": 0}
        return parse(
            {
                "stream": {"name": "split_digits", **stream, **few},
                "images": {"size": self.case.size},
                "model": {"backbone": self.case.backbone, "weights": "none"},
                "methods": {},
                "optimizer": {"name": "sgd", "lr": 1e-3},
                "steps": steps,
                "batch_size": self.case.batch,
                "data_dir": str(self.folder / "data"),
                "trainer": {
                    "accelerator": self.accelerator,
                    "devices": 1,
                    "precision": "bf16-mixed",
                    "enable_progress_bar": False,
                    "log_every_n_steps": 50,  # as tasks of 500 steps and more have it
                },
            }
        )

    def run(self, recipe: Recipe) -> Run:
        """A run, as users have it, up to its last task."""
        self.runs += 1
        folder = self.folder / f"run{self.runs}"
        folder.mkdir()
        run = Run(Setup.of(recipe, folder), folder)
        run.learn(run.setup.stages)
        return run

    def wait(self) -> float:
        """The time at which all work is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def autocast(self) -> torch.autocast:
        """As the runs have it."""
        return torch.autocast(self.device.type, torch.bfloat16)


class BareLoop:
    """Plain training steps on images that lie on the device; final."""

    def __init__(self, bench: Bench) -> None:
        case, self.bench = bench.case, bench
        loaded = backbone.load(bench.recipe(1).model, 10, case.size, None)
        self.model: nn.Module = loaded.model.to(bench.device).train()
        last = backbone.prefers_channels_last(self.model, bench.device)
        self.layout = torch.channels_last if last else torch.contiguous_format
        if last:
            self.model.to(memory_format=torch.channels_last)
        shape = (640, 1, case.size, case.size)  # digits are grey
        self.images = torch.randint(256, shape, dtype=torch.uint8, device=bench.device)
        self.labels = torch.randint(10, (640,), device=bench.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, fused=True)
        std, mean = (torch.tensor(HALF, device=bench.device).view(3, 1, 1) for _ in range(2))
        self.scale, self.shift = 1 / (255 * std), -mean / std

    def inputs(self, index: Tensor) -> Tensor:
        """Normalised images."""
        inputs = torch.addcmul(self.shift, self.images[index].float(), self.scale)
        return inputs.contiguous(memory_format=self.layout)

    def steps(self, number: int) -> None:
        """Train for so many steps."""
        order = torch.randperm(640, device=self.bench.device).split(self.bench.case.batch)
        for step in range(number):
            index = order[step % len(order)]
            with self.bench.autocast():
                logits = self.model(self.inputs(index))
            loss = F.cross_entropy(logits.float(), self.labels[index])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def evaluate(self, index: Tensor, batch: int) -> None:
        """The accuracy on some of the images."""
        self.model.eval()
        right = torch.zeros((), device=self.bench.device)
        with torch.inference_mode(), self.bench.autocast():
            for part in index.split(batch):
                right += (self.model(self.inputs(part)).argmax(1) == self.labels[part]).sum()
        self.model.train()
        float(right)


@contextmanager
def after_steps(act: Callable[[int], None]) -> Iterator[None]:
    """Within, ``act`` is told the number of each step of a second task, from 1, when it is made."""
    whole = Learner.optimizer_step

    def step(self: Learner, *args: Any, **kwargs: Any) -> None:
        whole(self, *args, **kwargs)
        if self.context.task.index == 1:
            act(self.step_count)

    Learner.optimizer_step = step  # type: ignore[method-assign]
    try:
        yield
    finally:
        Learner.optimizer_step = whole  # type: ignore[method-assign]
