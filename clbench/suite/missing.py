"""What the runs of a suite lack on this machine: data sets, and pretrained weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from clbench.data import datasets
from clbench.errors import ClbenchError
from clbench.estimate.needed import outline
from clbench.methods.files import missing_files
from clbench.models import backbone
from clbench.models.missing import missing_weights
from clbench.recipe.merging import merge
from clbench.recipe.recipe import Recipe
from clbench.streams.outline import Missing
from clbench.suite.suite import Cell, Suite


class Inventory:
    """What there is of what runs need. Everything is looked for once, and fetched at most once.

    Args:
        fetch: fetch what can be fetched; what then is there is not missing.

    Attributes:
        missing: what is not there, by name.
    """

    def __init__(self, fetch: bool) -> None:
        self.fetch, self.missing = fetch, dict[str, Missing]()
        self._streams: dict[str, list[Missing] | ClbenchError] = {}
        self._told = set[str]()
        self._tried: dict[str, str] = {}  # by what was fetched: why that failed, or nothing

    def data(self, recipe: Recipe) -> list[str]:
        """The data sets, and files of its methods, without which a recipe cannot run.

        Raises:
            ClbenchError: for images of the user's own that are not there.
        """
        key = recipe.model_dump_json(include={"stream", "images", "data_dir", "retention"})
        if key not in self._streams:
            try:
                needed = outline(recipe)[1]
                for own in recipe.retention.sets.values():
                    if own.dataset:
                        needed.load(recipe.stream.download, own.dataset, recipe.data_dir, False)
                self._streams[key] = needed.missing
            except ClbenchError as error:
                self._streams[key] = error
        found = self._streams[key]
        if isinstance(found, ClbenchError):
            raise found
        load = partial(datasets.load, root=recipe.data_dir)
        lacks = [one.what for one in found if self._lacks(one, partial(load, one.what))]
        files = list(missing_files(recipe))
        self.missing |= {one.what: one for one in files}
        return lacks + [one.what for one in files]

    def weights(self, recipe: Recipe) -> list[str]:
        """The pretrained weights without which a recipe cannot run: one name, or none."""
        found = missing_weights(recipe.model)
        get = partial(backbone.load, recipe.model, 1, recipe.images.size)
        return [found.what] if found and self._lacks(found, get) else []

    def reason(self, recipe: Recipe) -> str:
        """Why a recipe cannot run here, in a few words; empty if it can."""
        try:
            return lacking(self.data(recipe), self.weights(recipe))
        except ClbenchError as error:
            return str(error)

    def lines(self) -> Iterator[str]:
        """What is missing and how to get it, a line each; what was told before is left out."""
        new = [missing for what, missing in self.missing.items() if what not in self._told]
        self._told |= self.missing.keys()
        for missing in new:
            state = "Not here, will be fetched" if missing.fetched else "Missing"
            yield f"{state}: {missing.what}: {missing.how.rstrip('.')}."

    @property
    def ways(self) -> str:
        """How to get all that the runs cannot fetch themselves."""
        return "; ".join(x.how.rstrip(".") for x in self.missing.values() if not x.fetched)

    def _lacks(self, missing: Missing, get: Callable[[], object]) -> bool:
        self.missing.setdefault(missing.what, missing)
        if not missing.fetched or not self.fetch:
            return not missing.fetched
        if missing.what not in self._tried:
            print(f"Fetching {missing.what} …", flush=True)
            try:
                get()
                self._tried[missing.what] = ""
            except ClbenchError as error:
                self._tried[missing.what] = " ".join(str(error).split())
        reason = self._tried[missing.what]
        if reason:
            self.missing[missing.what] = missing._replace(how=reason, fetched=False)
        else:
            del self.missing[missing.what]
        return bool(reason)


def lacking(data: Sequence[str], weights: Sequence[str]) -> str:
    """In words; empty if nothing is lacking."""
    told = [f"{', '.join(data)} {'is' if len(data) == 1 else 'are'} missing"] * bool(data)
    return "; ".join(told + [f"weights {x.removesuffix(' weights')} are missing" for x in weights])


def skip(suite: Suite, inventory: Inventory) -> tuple[Suite, dict[str, str]]:
    """A suite without what cannot run here, and why, by the cell's name.

    An independent stream of several data sets does without those that are missing.
    """
    left, skipped = list[Cell](), dict[str, str]()
    for cell in suite.cells:
        recipe = cell.plan(suite.seeds[0]).recipe
        try:
            gone, weights = inventory.data(recipe), inventory.weights(recipe)
        except ClbenchError as error:
            skipped[cell.name] = str(error)
            continue
        there = [name for name in recipe.stream.can_miss if name not in gone]
        if gone and there and {*gone} <= {*recipe.stream.can_miss}:
            cell = replace(cell, values=merge(cell.values, {"stream": {"datasets": there}}))
            gone = []
        if reason := lacking(gone, weights):
            skipped[cell.name] = reason
        else:
            left.append(cell)
    return replace(suite, cells=tuple(left)), skipped
