"""What the features still tell of earlier tasks, whatever became of the head.

[0] Davari et al., *Probing representation forgetting in supervised and unsupervised continual
    learning*, CVPR 2022: the accuracy of a linear probe that is made anew, and how it changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.errors import ClbenchError
from clbench.measure.evaluate import Evaluator
from clbench.metrics.retained.base import Classifier, Look
from clbench.metrics.retained.knn import KNN
from clbench.recipe.recipe import Recipe
from clbench.streams import Stream, Task


@dataclass(frozen=True)
class RepresentationTest:
    """Asks classifiers, made of each task's training images, about its test images [0].

    Attributes:
        stream: whose tasks; all of their training images are looked at, past ones too, as nothing
            is learned from them.
        measures: how classifiers are made, by name.
        per_class: at most so many training images of a class make them; None: all.
    """

    stream: Stream
    measures: Mapping[str, Classifier]
    per_class: int | None = None

    @classmethod
    def make(cls, recipe: Recipe, stream: Stream) -> RepresentationTest | None:
        """The test that the recipe asks for; None if it asks for none.

        Raises:
            ClbenchError: if a task has too few images for a classifier.
        """
        rules = recipe.representation
        measures = {n: m for n, m in rules.measures.items() if isinstance(m, Classifier)}
        if not measures:
            return None
        made = cls(stream, measures, rules.per_class)
        for task in stream.tasks:
            count = len(made.learned_from(task))
            for name, measure in measures.items():
                if isinstance(measure, KNN) and measure.k > count:
                    raise ClbenchError(
                        f"representation.measures.{name}.k = {measure.k}, but there are {count} "
                        f"images of task {task.name} to learn from: lower k, or raise "
                        "representation.per_class"
                    )
        return made

    def learned_from(self, task: Task) -> Split:
        """The images that a task's classifiers are made of."""
        split = task.train
        if self.per_class is None:
            chosen = torch.arange(len(split))
        else:
            chosen = evenly(split.labels, self.per_class)
        # Not through the guard that keeps past data from training.
        return Split(self.stream.train_images, split.index[chosen], split.labels[chosen])

    def images(self, tasks: Sequence[Task]) -> int:
        """How many images pass through the network when these tasks are looked at."""
        return sum(len(self.learned_from(task)) + len(task.test) for task in tasks)

    def measure(
        self, evaluator: Evaluator, model: nn.Module, tasks: Sequence[Task]
    ) -> dict[str, list[float]]:
        """Accuracies in 0…1 on each of the tasks, among its classes, by the names of measures.

        Args:
            evaluator: how networks are evaluated.
            model: the network; its training mode is restored.
            tasks: which.
        """
        found: dict[str, list[float]] = {name: [] for name in self.measures}
        for task in tasks:
            train = self.learned_from(task)
            learned, asked = (
                self._features(evaluator, model, split) for split in (train, task.test)
            )
            labels = (split.labels.to(learned.device) for split in (task.test, train))
            asked_labels, learned_labels = labels
            look = Look(asked, asked, asked_labels, learned, learned_labels)
            with torch.inference_mode():
                for name, measure in self.measures.items():
                    found[name].append(measure.score(look))
        return found

    def _features(self, evaluator: Evaluator, model: nn.Module, split: Split) -> Tensor:
        features = evaluator.look(model, split, keep=True)[1]
        assert features is not None
        return features


def evenly(labels_N: Tensor, per_class: int) -> Tensor:
    """Positions of at most ``per_class`` images of each class, evenly among them, in order.

    Images of a class may be sorted, as frames of a video are: its first ones would be of one kind.

    >>> evenly(torch.tensor([0, 0, 0, 0, 0, 1]), 3).tolist()
    [0, 2, 4, 5]
    """
    chosen = []
    for label in labels_N.unique():
        places = (labels_N == label).nonzero()[:, 0]
        count = min(per_class, len(places))
        chosen.append(places[torch.linspace(0, len(places) - 1, count).round().long()])
    return torch.cat(chosen).sort().values
