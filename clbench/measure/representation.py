"""What the features still tell of earlier tasks, whatever became of the head.

[0] Davari et al., *Probing representation forgetting in supervised and unsupervised continual
    learning*, CVPR 2022: the accuracy of a linear probe that is made anew, and how it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.reader import distinct
from clbench.errors import ClbenchError
from clbench.measure.evaluate import Evaluator
from clbench.metrics.retained.base import Classifier, Look
from clbench.recipe.recipe import Recipe
from clbench.streams import Stream, Task


@dataclass(frozen=True)
class RepresentationTest:
    """Asks classifiers, made of each task's training images, about its test images [0].

    Where a task is also tested on classes that it does not train, they are not asked about those.

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
            ClbenchError: if a task has too few images for a classifier, or none to ask it about.
        """
        rules = recipe.representation
        measures = {n: m for n, m in rules.measures.items() if isinstance(m, Classifier)}
        if not measures:
            return None
        made = cls(stream, measures, rules.per_class)
        for task in stream.tasks:
            asked, learned = int(made._known[task.index].sum()), len(made.learned_from(task))
            if not asked:
                raise ClbenchError(
                    f"representation.measures = {', '.join(measures)}, but task {task.name} is "
                    "tested on none of the classes that it trains: leave representation out"
                )
            for name, measure in measures.items():
                if why := measure.lacks(asked, learned):
                    way = " (or raise representation.per_class)" * (rules.per_class is not None)
                    raise ClbenchError(
                        f"representation.measures.{name}, task {task.name}: {why}{way}"
                    )
        return made

    @cached_property
    def _known(self) -> list[Tensor]:
        """Bool (N,) of every task: its test images of the classes that it trains."""
        tasks = self.stream.tasks
        return [torch.isin(task.test.labels, task.train.labels.unique()) for task in tasks]

    @cached_property
    def _places(self) -> list[int]:
        """Which of the test splits that differ is that of every task."""
        return distinct([task.test for task in self.stream.tasks])[1]

    def _alike(self, tasks: Sequence[Task]) -> Iterator[tuple[Tensor, list[Task]]]:
        """Tasks with the same test images, and which of these (bool) one of them is asked about."""
        for place in dict.fromkeys(self._places[task.index] for task in tasks):
            alike = [task for task in tasks if self._places[task.index] == place]
            yield torch.stack([self._known[task.index] for task in alike]).any(0), alike

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
        asked = sum(int(needed.sum()) for needed, _ in self._alike(tasks))
        return asked + sum(len(self.learned_from(task)) for task in tasks)

    def measure(
        self, evaluator: Evaluator, model: nn.Module, tasks: Sequence[Task]
    ) -> dict[str, list[float]]:
        """Accuracies in 0…1 on each of the tasks, among its classes, by the names of measures.

        Test images that several tasks have in common are looked at once.

        Args:
            evaluator: how networks are evaluated.
            model: the network; its training mode is restored.
            tasks: which.
        """
        found: dict[str, dict[int, float]] = {name: {} for name in self.measures}
        for needed, alike in self._alike(tasks):
            asked = _part(alike[0].test, needed)
            asked_NF = self._features(evaluator, model, asked)
            for task in alike:
                train, mine = self.learned_from(task), self._known[task.index][needed]
                learned_MF = self._features(evaluator, model, train)
                device = learned_MF.device
                labels = asked.labels[mine].to(device), train.labels.to(device)
                queries_QF = asked_NF[mine.to(device)]
                look = Look(queries_QF, queries_QF, labels[0], learned_MF, labels[1])
                with torch.inference_mode():
                    for name, measure in self.measures.items():
                        found[name][task.index] = measure.score(look)
        return {name: [own[task.index] for task in tasks] for name, own in found.items()}

    def _features(self, evaluator: Evaluator, model: nn.Module, split: Split) -> Tensor:
        features = evaluator.look(model, split, keep=True)[1]
        assert features is not None
        return features


def _part(split: Split, chosen_N: Tensor) -> Split:
    """The images of a split that are marked."""
    return Split(split.images, split.index[chosen_N], split.labels[chosen_N])


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
