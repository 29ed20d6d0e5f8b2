"""The smallest batch that a network can be trained on, task after task."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from clbench.recipe.recipe import Recipe
from clbench.runner.parts import Passes
from clbench.runner.preflight import smallest, trained_by


class Smallest:
    """:func:`~clbench.runner.preflight.smallest`; tried once for all tasks that train the same.

    Args:
        passes: which count the image of a trial for every task, tried or known: records do.
    """

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self._known: dict[object, tuple[int, int]] = {}

    def of(self, recipe: Recipe, model: nn.Module, head: Sequence[str]) -> int:
        """Images that the network needs at a time; arguments as for :func:`smallest`."""
        trained, before = trained_by(list(recipe.methods.values())), self.passes.passed
        what = (
            recipe.images.size,
            recipe.model.batch_norm_training,
            tuple((name, type(module)) for name, module in model.named_modules()),
            tuple(name for name, _ in model.named_parameters() if trained(name)),
        )
        if what not in self._known:
            self._known[what] = smallest(recipe, model, head), self.passes.passed - before
        least, images = self._known[what]
        self.passes.passed = before + images
        return least
