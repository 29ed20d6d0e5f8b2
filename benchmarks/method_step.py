"""Time of a training step with each method against plain fine-tuning of the same network.

    python benchmarks/method_step.py [--methods l2 si …] [--accelerator gpu]

Both sides are runs as a user has them (Learner, Lightning's Trainer, TensorBoard), each in a thread
of its own; in the second task they take turns step by step, only one of them at work at a time.
ResNet-18 on random images, a small ViT for methods that ask for one.

In eight steps of a task a penalty is worked out twice, to know what it could do (``scope``): they
are left out, as they are eight however long a task is.

Where a method passes images through the network besides, the goal is what these passes cost,
measured in the same process on the same images, plus 5 %.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pairs import Pair, lacks_gpu, ready, show
from torch import nn

from clbench.errors import ClbenchError
from clbench.learner.learner import Learner
from clbench.methods import METHODS
from clbench.methods.gradient_share import LOOKS, looks
from clbench.recipe.recipe import Recipe, parse
from clbench.runner.setup import Setup
from clbench.runner.tasks import Run

#: At most so many times a plain step, where no image passes the network besides.
GOAL = 1.05
#: Of these a goal is asked: passes without a gradient and steps on other images, for each step.
PASSES = {
    **dict.fromkeys(("l2", "si", "ewc", "sfa"), (0, 0)),
    **dict.fromkeys(("lwf", "ldifs"), (1, 0)),
    "der": (0, 1),
}
#: Settings by which a method acts in the steps that are timed.
SETTINGS: dict[str, dict[str, Any]] = {
    "l2": {"strength": 0.1, "anchor": "previous"},
    "l1": {"strength": 1e-6},
    "sfa": {"p": 0.5},
    "ewc": {"strength": 1.0},
    "replay": {"fraction": 0.25},
}
CNN, VIT = {"backbone": "resnet18"}, {"backbone": "tiny_vit", "options": {"depth": 8}}


def recipe_of(methods: Mapping[str, Any], options: argparse.Namespace, data: str) -> Recipe:
    """Two tasks of random class order; the second is timed.

    Raises:
        ClbenchError: if the methods do not go with the network or the optimiser.
    """
    asks = [METHODS[name]() for name in methods]
    adam = any("sgd" not in method.optimizers for method in asks if method.optimizers)
    vit = any(method.networks for method in asks)
    return parse(
        {
            "stream": {
                "name": "split_digits",
                "classes": [[4, 5], [6, 7]],
                "train_per_class": options.batch,
                "test_per_class": 4,
            },
            "images": {"size": 32 if vit else options.size},
            "model": (VIT if vit else CNN) | {"weights": "none"},
            "methods": dict(methods),
            "optimizer": {"name": "adamw", "lr": 1e-4} if adam else {"name": "sgd", "lr": 1e-3},
            "steps": options.rounds + LOOKS + 1,
            "batch_size": options.batch,
            "data_dir": data,
            "trainer": {"accelerator": options.accelerator, "enable_progress_bar": False},
        }
    )


class Turns:
    """Two runs, of which one at a time goes one step on; final.

    Attributes:
        seconds: of the steps of each run in its second task, without the first step.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        self._free = {name: threading.Event() for name in self.seconds}
        self._began = dict.fromkeys(self.seconds, 0.0)
        self._over: set[str] = set()
        self._free["ours"].set()
        self.failed: BaseException | None = None

    def after_step(self, name: str, task: int, counts: bool) -> None:
        """Note what a step took, if it counts, and let the other make one."""
        _wait()
        now = time.perf_counter()
        if counts and task and self._began[name]:
            self.seconds[name].append(now - self._began[name])
        if task:
            self._pass_on(name)
            self._free[name].wait()
            self._began[name] = time.perf_counter()

    def go(self, name: str, work: Callable[[], None]) -> None:
        """The thread of a run."""
        self._free[name].wait()
        try:
            work()
        except BaseException as error:  # told in the main thread
            self.failed = error
        self._over.add(name)
        self._pass_on(name)

    def _pass_on(self, name: str) -> None:
        other = "theirs" if name == "ours" else "ours"
        if other not in self._over:
            self._free[name].clear()
            self._free[other].set()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(name: str, options: argparse.Namespace, data: str) -> Pair:
    """Steps of a method, and of plain fine-tuning of the same network.

    Raises:
        ClbenchError: if the method does not go with the network or the optimiser.
    """
    method = {name: SETTINGS.get(name, {})}
    if "tuned" in METHODS[name].model_fields:  # by default the trunk of many rests
        method[name] = {"tuned": "always"}
    recipes = {"ours": recipe_of(method, options, data)}
    plain = recipes["ours"].model_dump(mode="json") | {"methods": {}}
    recipes["theirs"] = parse(plain)
    turns, own, whole = Turns(), threading.local(), Learner.optimizer_step

    def step(self: Learner, *args: Any, **kwargs: Any) -> None:
        whole(self, *args, **kwargs)
        counts = self.step_count not in looks(self.total_steps)
        turns.after_step(own.name, self.context.task.index, counts)

    def work(side: str) -> Callable[[], None]:
        def run() -> None:
            own.name = side
            folder = Path(data, f"{name}-{side}")
            folder.mkdir()
            made = Run(Setup.of(recipes[side], folder), folder)
            made.learn(made.setup.stages)

        return run

    Learner.optimizer_step = step  # type: ignore[method-assign]
    try:
        threads = [threading.Thread(target=turns.go, args=(s, work(s))) for s in recipes]
        with contextlib.redirect_stdout(io.StringIO()):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        Learner.optimizer_step = whole  # type: ignore[method-assign]
    if turns.failed:
        raise turns.failed
    goal = math.inf
    if name in PASSES:
        goal = GOAL * (1 + _share(*PASSES[name], options))
    ours, theirs = turns.seconds["ours"], turns.seconds["theirs"]
    count = min(len(ours), len(theirs))
    return Pair(name, ours[:count], theirs[:count], 1, "step", at_most=goal)


def _share(passes: int, steps: int, options: argparse.Namespace) -> float:
    """What passes without gradients and steps on other images cost, as a share of a step."""
    if not passes and not steps:
        return 0.0
    import timm

    device = torch.device("cuda" if options.accelerator == "gpu" else "cpu")
    model = timm.create_model("resnet18", num_classes=4).to(device).train()
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    images = torch.randn(options.batch, 3, options.size, options.size, device=device)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, 0.9, fused=True)
    shares = []
    for _ in range(max(5, options.rounds // 2)):
        whole = _timed(lambda: _train(model, images, optimizer))
        passed = _timed(lambda: _look(model, images))
        shares.append(passes * passed / whole + steps)
    return statistics.median(shares)


def _timed(work: Callable[[], None]) -> float:
    _wait()
    began = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - began


def _train(model: nn.Module, images: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _look(model: nn.Module, images: torch.Tensor) -> None:
    with torch.no_grad():
        model(images)


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="steps of each side")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images of a batch")
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--methods", nargs="*", default=ready(), choices=ready())
    options = parser.parse_args()
    if lacks_gpu(options.accelerator):
        return 0
    pairs = []
    with tempfile.TemporaryDirectory() as data:
        for name in options.methods:
            try:
                pair = compare(name, options, data)
            except ClbenchError as error:
                print(f"{name}: left out, {error}", flush=True)
                continue
            if not pair.ours:
                print(f"{name}: left out, it trains nothing in the second task", flush=True)
                continue
            print(f"{name}: {statistics.median(pair.ratios):.3f}x", file=sys.stderr, flush=True)
            pairs.append(pair)
    return show(pairs, "plain")


if __name__ == "__main__":
    sys.exit(main())
