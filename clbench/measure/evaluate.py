"""Accuracy of a network on many tasks at once, from one forward pass over their test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.reader import Inputs, Reader
from clbench.errors import ClbenchError
from clbench.models import features
from clbench.models.modes import evaluating
from clbench.processes.processes import rank_and_world, world_size


@dataclass(frozen=True)
class Scores:
    """Accuracies in 0…1, one for each task.

    Attributes:
        task_incremental: among the classes of the sample's task.
        class_incremental: among all classes seen so far. Where tasks share labels, the same.
    """

    task_incremental: list[float]
    class_incremental: list[float]


@dataclass(frozen=True)
class Evaluator:
    """How networks are evaluated in a run.

    Attributes:
        reader: how images are read.
    """

    reader: Reader

    def accuracy(
        self, model: nn.Module, splits: Sequence[Split], task_of_class: Tensor, seen: Tensor
    ) -> Scores:
        """Accuracy on each of ``splits``, reduced over all processes; no sample counts twice.

        Args:
            model: the network; its training mode is restored.
            splits: the images of each task that is to be reported, of one source.
            task_of_class: int64 (C,), the task of each class.
            seen: bool (C,), the classes seen so far.

        Raises:
            ClbenchError: if the network's output for an image is not finite.
        """
        device = next(model.parameters()).device
        tallies = torch.zeros(4, len(splits), dtype=torch.int64, device=device)
        owner = task_of_class.to(device)
        unseen = ~seen.to(device)
        sizes = torch.tensor([len(split) for split in splits])
        of_split = torch.arange(len(splits)).repeat_interleave(sizes)
        for inputs, labels, positions in self._batches(Split.joined(splits), device):
            logits = self._forward(model, model, inputs)
            mine = of_split[positions].to(device)
            others = owner != owner[labels][:, None]
            right_task = logits.masked_fill(others, -torch.inf).argmax(1) == labels
            right_class = logits.masked_fill(unseen, -torch.inf).argmax(1) == labels
            ones = torch.ones_like(mine)
            tallies[0].index_add_(0, mine, right_task.long())
            tallies[1].index_add_(0, mine, right_class.long())
            tallies[2].index_add_(0, mine, ones)
            tallies[3].index_add_(0, mine, (~logits.isfinite()).any(1).long())
        if world_size() > 1:
            dist.all_reduce(tallies)
        _refuse(int(tallies[3].sum()))
        by_task, by_class, totals = tallies[:3].tolist()
        return Scores(
            [right / total for right, total in zip(by_task, totals, strict=True)],
            [right / total for right, total in zip(by_class, totals, strict=True)],
        )

    def top_k(self, model: nn.Module, head: nn.Module, split: Split) -> dict[str, float]:
        """Top-1 and top-5 accuracy of ``head`` on the features of ``model``.

        Args:
            model: the network; its training mode is restored.
            head: the classifier it was pretrained with, K rows.
            split: images with labels in 0…K-1.

        Raises:
            ClbenchError: as for :meth:`accuracy`.
        """
        device = next(model.parameters()).device
        head = head.to(device)
        tallies = torch.zeros(4, dtype=torch.int64, device=device)
        for inputs, labels, _ in self._batches(split, device):
            logits = self._forward(model, lambda x: head(features(model, x)), inputs)
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
            tallies[0] += best[:, 0].sum()
            tallies[1] += best.sum()
            tallies[2] += len(labels)
            tallies[3] += (~logits.isfinite()).any(1).sum()
        if world_size() > 1:
            dist.all_reduce(tallies)
        top1, top5, total, without = tallies.tolist()
        _refuse(without)
        return {"top1": top1 / total, "top5": top5 / total}

    def _forward(
        self, model: nn.Module, function: Callable[[Tensor], Tensor], inputs: Tensor
    ) -> Tensor:
        with evaluating(model), torch.inference_mode(), self.reader.autocast():
            return function(inputs).float()

    def _batches(self, split: Split, device: torch.device) -> Iterator[Inputs]:
        """This process's samples."""
        rank, world = rank_and_world()
        mine = torch.arange(len(split))[rank::world]
        return self.reader.batches(split, device, mine.split(self.reader.batch_size))


def _refuse(count: int) -> None:
    """What is no number is not scored."""
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
