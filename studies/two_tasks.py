"""Two tasks that share one head: even digits, then odd ones, each labelled ⌊digit/2⌋.

The setting of SFA's Fig. 9, which is Moriarity's (*Continual learning with elastic weight
consolidation in TensorFlow 2*, 2020), on small data: a network of 64-128-5 on scikit-learn's digits.
Task A is learned once for each seed; every method then learns task B from the same weights θ_o, with
the same batches. The formulas are the library's own; only the loop stands here, as 400 runs of a
network this small take longer to set up than to train.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.methods.ewc import fisher_diagonal
from clbench.methods.penalty import l2_penalty
from clbench.methods.sfa import averaging_steps
from clbench.models.anchors import Anchor
from clbench.seeding import derive, generator
from clbench.streams.base import Split, Task
from clbench.streams.split import SplitConfig
from clbench.streams.storage import Storage
from clbench.weights import State, trunk_distance

#: Optimiser steps of task A and of task B: B is long enough for A to be forgotten.
STEPS = {"A": 200, "B": 400}
BATCH, RATE, WIDTH, LABELS = 32, 1e-3, 128, 5
#: Of the network: the last layer.
HEAD = ("2.weight", "2.bias")
Part = Literal["train", "validation", "test"]
#: Inputs (N, 64) in 0…1 and labels (N,).
Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Way:
    """How task B is learned: plainly, unless told.

    Attributes:
        interval: steps between averages with θ_o, the last of which is at the end; 0: none.
        beta: weight of θ_o in them.
        strength: λ of (λ/2)·Σ F·(θ − θ_o)²; 0: none.
        fisher: F: ones (ℓ2); the Fisher information, as it is or averaged over each kernel's inputs;
            or what Moriarity's program takes for it.
    """

    interval: int = 0
    beta: float = 0.0
    strength: float = 0.0
    fisher: Literal["", "true", "averaged", "blog"] = ""


#: Plain fine-tuning.
PLAIN = Way()


def data(folder: Path) -> dict[str, dict[Part, Data]]:
    """Both tasks' data: 80 % of clbench's training images to train on, 20 % for validation."""
    groups = [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    config = SplitConfig(
        name="split_digits", pretrain_classes=[], classes=groups, labels="shared", validation=0.2
    )
    stream = config.build(folder, Storage(size=8))
    stream.open(stream.tasks[-1], past=True)
    return {name: _data(task) for name, task in zip(STEPS, stream.tasks, strict=True)}


def _data(task: Task) -> dict[Part, Data]:
    return {
        "train": _tensors(task.train),
        "validation": _tensors(task.validation),
        "test": _tensors(task.test),
    }


def _tensors(split: Split) -> Data:
    images = split.images.take(split.index)[:, 0].flatten(1)
    return images.float() / 255, split.labels


class TwoTasks:
    """One seed: task A learned, and the ways to learn task B from its end.

    Args:
        tasks: as :func:`data` gives them.
        seed: of the first weights and of the batches.
        steps: of both tasks.
    """

    def __init__(
        self,
        tasks: Mapping[str, Mapping[Part, Data]],
        seed: int,
        steps: Mapping[str, int] = STEPS,
    ) -> None:
        self.tasks, self.seed, self.steps = tasks, seed, steps
        self.model = _network(seed)
        train = tasks["A"]["train"]
        _train(self.model, train, steps["A"], derive(seed, 1))
        self.theta_o = _copy(self.model)
        self.anchor = Anchor(self.theta_o, torch.ones(LABELS, dtype=torch.bool))
        random = generator(seed, 3)
        # Ten draws of the labels for each image: the Fisher's own noise is not to count against it.
        true = fisher_diagonal(self.model, [train] * 10, labels="model", random=random)
        ones = {name: torch.ones_like(weight) for name, weight in self.theta_o.items()}
        averaged = {name: _over_inputs(f) for name, f in true.items()}
        blog = blog_fisher(self.model, train)
        self.factors = {"": ones, "true": true, "averaged": averaged, "blog": blog}

    def after_a(self) -> dict[str, float]:
        """What the network can do before task B."""
        self.model.load_state_dict(self.theta_o)
        return self._numbers()

    def multitask(self) -> dict[str, float]:
        """Both tasks' images in one, from the same first weights, for as many steps together."""
        parts = [self.tasks[name]["train"] for name in self.steps]
        both = torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
        self.model = _network(self.seed)
        _train(self.model, both, sum(self.steps.values()), derive(self.seed, 4))
        return self._numbers()

    def learn_b(self, way: Way) -> dict[str, float]:
        """Learn task B from the end of task A.

        Returns:
            ``test_A`` and the like: accuracies on both tasks' validation and test parts, in 0…1;
            ``distance``: ‖θ − θ_o‖ over the trunk.
        """
        self.model.load_state_dict(self.theta_o)
        total = self.steps["B"]
        at = averaging_steps(total, min(1.0, way.interval / total)) if way.interval else ()
        _train(
            self.model,
            self.tasks["B"]["train"],
            total,
            derive(self.seed, 2),
            way,
            self.anchor,
            self.factors[way.fisher],
            frozenset(at),
        )
        return self._numbers()

    def unimportant(self, strength: float = 1e5, below: float = 0.01) -> dict[str, float]:
        """Why EWC does not hold task A: weights of the first layer that have next to no Fisher.

        Args:
            strength: λ.
            below: what is next to none, as a share of the layer's mean.

        Returns:
            ``share``: of such weights; ``moved``: their share of the squared distance from θ_o.
        """
        self.learn_b(Way(strength=strength, fisher="true"))
        name = "0.weight"
        fisher = self.factors["true"][name]
        low = fisher < below * fisher.mean()
        squares = (self.model.state_dict()[name] - self.theta_o[name]).double().square()
        return {
            "share": float(low.double().mean()),
            "moved": float(squares[low].sum() / squares.sum()),
        }

    @torch.no_grad()
    def _numbers(self) -> dict[str, float]:
        found = {}
        for part in ("validation", "test"):
            for name in self.tasks:
                inputs, labels = self.tasks[name][part]
                right = self.model(inputs).argmax(1) == labels
                found[f"{part}_{name}"] = float(right.double().mean())
        theta = self.model.state_dict()
        return found | {"distance": trunk_distance(theta, self.theta_o, HEAD)}


def _network(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, 0))
        return nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, LABELS))


def _train(
    model: nn.Module,
    train: Data,
    steps: int,
    seed: int,
    way: Way = PLAIN,
    anchor: Anchor | None = None,
    factors: State | None = None,
    averages: Iterable[int] = (),
) -> None:
    """Adam at a constant rate; whole batches of a new order in every epoch."""
    inputs, labels = train
    random, order = generator(seed), torch.empty(0, dtype=torch.int64)
    named = dict(model.named_parameters())
    weights = list(named.values())
    optimizer = torch.optim.Adam(weights, RATE)
    for step in range(1, steps + 1):
        if len(order) < BATCH:
            order = torch.randperm(len(inputs), generator=random)
        chosen, order = order[:BATCH], order[BATCH:]
        loss = F.cross_entropy(model(inputs[chosen]), labels[chosen])
        if way.strength and anchor is not None and factors is not None:
            centres = [anchor.state[name] for name in named]
            loss = loss + l2_penalty(weights, centres, way.strength, [factors[n] for n in named])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in averages and anchor is not None:
            anchor.pull(model, way.beta, HEAD)


def blog_fisher(model: nn.Module, train: Data, batches: int = 100) -> State:
    """What Moriarity's program takes for the Fisher information, and is none.

    The squared gradient of the *sum* of all log-probabilities of a batch, all labels alike, and of
    that the mean over a kernel's inputs (over a bias, the mean of all).
    """
    inputs, _ = train
    named = dict(model.named_parameters())
    total = {name: torch.zeros_like(weight) for name, weight in named.items()}
    random = generator(0)
    for _ in range(batches):
        chosen = torch.randint(len(inputs), (BATCH,), generator=random)
        summed = F.log_softmax(model(inputs[chosen]), 1).sum()
        for name, gradient in zip(
            named, torch.autograd.grad(summed, list(named.values())), strict=True
        ):
            total[name] += _over_inputs(gradient.square()) / batches
    return total


def _over_inputs(factors: Tensor) -> Tensor:
    """A kernel's factors (outputs, inputs), each its output's mean; a bias's, all their mean."""
    return factors.mean(-1, keepdim=True).expand_as(factors)


def _copy(model: nn.Module) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
