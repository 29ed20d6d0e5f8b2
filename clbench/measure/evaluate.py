"""Accuracy of a network on many tasks at once, from one forward pass over their test images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.reader import Inputs, Reader, distinct
from clbench.data.sending import sent
from clbench.errors import ClbenchError
from clbench.metrics import METRICS
from clbench.metrics.accuracy import Accuracy, Flaws, TopAccuracy
from clbench.metrics.base import TaskMetric
from clbench.models import features
from clbench.models.modes import evaluating, in_full_precision
from clbench.processes.processes import gathered, rank_and_world, world_size


@dataclass(frozen=True)
class Scores:
    """What was measured, for each task.

    Attributes:
        task_incremental: accuracy in 0…1 among the classes of the sample's task.
        class_incremental: among all classes seen so far. Where tasks share labels, the same.
        metrics: the evaluator's metrics, by name and by one or the other of these choices.
    """

    task_incremental: list[float]
    class_incremental: list[float]
    metrics: dict[str, dict[str, list[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluator:
    """How networks are evaluated in a run.

    Attributes:
        reader: how images are read.
        metrics: names of :data:`clbench.metrics.METRICS` to measure beside accuracy.
        classifier: gives what makes logits (B, C) of features (B, F) in place of the network's
            head, if anything does as yet.
        to_classify: makes these features of images.
    """

    reader: Reader
    metrics: tuple[str, ...] = ()
    classifier: Callable[[], Callable[[Tensor], Tensor] | None] | None = None
    to_classify: Callable[[nn.Module, Tensor], Tensor] = features

    def accuracy(
        self, model: nn.Module, splits: Sequence[Split], task_of_class: Tensor, seen: Tensor
    ) -> Scores:
        """Scores on each of ``splits``, reduced over all processes; no sample counts twice.

        Splits that are the same are read once, and have the same scores.

        Args:
            model: the network; its training mode is restored.
            splits: the images of each task that is to be reported, of one source.
            task_of_class: int64 (C,), the task of each class.
            seen: bool (C,), the classes seen so far.

        Raises:
            ClbenchError: if the network's output for an image is not finite.
        """
        splits, places = distinct(splits)
        device, count = next(model.parameters()).device, len(splits)
        kinds = {"accuracy": Accuracy} | {name: METRICS[name] for name in self.metrics}
        by_task, by_class = (
            {name: kind(count).to(device) for name, kind in kinds.items()} for _ in range(2)
        )
        flaws = Flaws(count).to(device)
        owner = task_of_class.to(device)
        unseen = ~seen.to(device)
        sizes = torch.tensor([len(split) for split in splits])
        of_split = torch.arange(count).repeat_interleave(sizes)
        classify = self._classifier(model)
        for inputs, labels, positions in self._batches(Split.joined(splits), device):
            with self._passing(model):
                logits = classify(inputs).float()
            mine = sent(of_split[positions], device)
            others = owner != owner[labels][:, None]
            flaws.update(logits, labels, mine)
            for metrics, barred in ((by_task, others), (by_class, unseen)):
                admitted = logits.masked_fill(barred, -torch.inf)
                for metric in metrics.values():
                    metric.update(admitted, labels, mine)
        _refuse(flaws)
        right, among_seen = by_task.pop("accuracy"), by_class.pop("accuracy")
        return Scores(
            _reduced(right, places),
            _reduced(among_seen, places),
            {
                name: {
                    "task_incremental": _reduced(metric, places),
                    "class_incremental": _reduced(by_class[name], places),
                }
                for name, metric in by_task.items()
            },
        )

    def _classifier(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """Logits of images: the network's own, or a method's from the features."""
        own = self.classifier() if self.classifier else None
        if own is None:
            return model
        return lambda inputs: in_full_precision(own, self.to_classify(model, inputs))

    def look(
        self, model: nn.Module, split: Split, head: nn.Module | None = None, keep: bool = False
    ) -> tuple[dict[str, Any] | None, Tensor | None]:
        """One pass over images of which the trunk's features are asked.

        Args:
            model: the network; its training mode is restored.
            split: the images, of which those with labels in 0…K-1 are put to the head.
            head: a classifier of K outputs on the features.
            keep: whether the features are returned.

        Returns:
            Top-1 and top-5 accuracy of the head, if there is one, with the evaluator's ``metrics``
            of its logits, if there are some; and features (N, F), float32, of
            the images of all processes, if they are kept.

        Raises:
            ClbenchError: as for :meth:`accuracy`.
        """
        device = next(model.parameters()).device
        top1, top5 = TopAccuracy(1, 1).to(device), TopAccuracy(1, 5).to(device)
        flaws = Flaws(1).to(device)
        names = () if head is None else self.metrics
        others = {name: METRICS[name](1).to(device) for name in names}
        kept: list[Tensor] = []
        places: list[Tensor] = []
        for inputs, labels, positions in self._batches(split, device):
            with self._passing(model):
                found = features(model, inputs)
                logits = (found if head is None else head(found)).float()
            if head is not None and (known := labels < logits.shape[1]).logical_not().any():
                logits, labels = logits[known], labels[known]
            for metric in (top1, top5, flaws, *others.values()):
                metric.update(logits, labels, torch.zeros_like(labels))
            if keep:
                kept.append(found.float())
                places.append(positions.to(device))
        _refuse(flaws)
        scores: dict[str, Any] | None = None
        if head is not None:
            scores = {"top1": _reduced(top1, [0])[0], "top5": _reduced(top5, [0])[0]}
            if others:
                scores["metrics"] = {name: _reduced(one, [0])[0] for name, one in others.items()}
        return scores, _in_order(kept, places, device) if keep else None

    @contextmanager
    def _passing(self, model: nn.Module) -> Iterator[None]:
        with evaluating(model), torch.inference_mode(), self.reader.autocast():
            yield

    def _batches(self, split: Split, device: torch.device) -> Iterator[Inputs]:
        """This process's samples."""
        rank, world = rank_and_world()
        mine = torch.arange(len(split))[rank::world]
        return self.reader.batches(split, device, mine.split(self.reader.batch_size))


def _in_order(kept: list[Tensor], places: list[Tensor], device: torch.device) -> Tensor:
    """The rows of all processes, each at its place; a process may have none."""
    width = torch.tensor(kept[0].shape[1] if kept else 0, device=device)
    if world_size() > 1:
        dist.all_reduce(width, dist.ReduceOp.MAX)
    empty = [torch.zeros(0, int(width), device=device)]
    nowhere = torch.zeros(0, dtype=torch.int64, device=device)
    rows, where = torch.cat([*empty, *kept]), torch.cat([nowhere, *places])
    return gathered(rows)[gathered(where).argsort()]


def _reduced(metric: TaskMetric, places: Sequence[int]) -> list[float]:
    """A metric's numbers over the samples of all processes, those at ``places``."""
    with warnings.catch_warnings():  # a process may have no sample
        warnings.simplefilter("ignore")
        numbers: list[float] = metric.compute().view(-1).tolist()  # torchmetrics squeezes one
    return [numbers[place] for place in places]


def _refuse(flaws: Flaws) -> None:
    """What is no number is not scored."""
    with flaws.sync_context():
        count = int(flaws.count.sum())
    if count:
        raise ClbenchError(
            f"the network's output is not finite for {count:,} of the images it is tested on: "
            "its weights have grown too large or trainer.precision is too low; lower optimizer.lr, "
            "add schedule.warmup, or set trainer.gradient_clip_val"
        )


def total(count: int, device: torch.device) -> int:
    """The sum of a count over all processes."""
    if world_size() == 1:
        return count
    tensor = torch.tensor(count, device=device)
    dist.all_reduce(tensor)
    return int(tensor)
