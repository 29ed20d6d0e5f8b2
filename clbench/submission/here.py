"""What this machine knows of what submissions are about: data, weights, networks, recipes.

Recipes are strangers': nothing is fetched, no plugin is loaded, no path of theirs is followed, and
what would take much memory is not made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
import torch

from clbench.data.datasets import Labelled
from clbench.data.datasets.sizes import SIZES
from clbench.data.images import Images
from clbench.errors import ClbenchError, reason
from clbench.estimate.needed import outline
from clbench.models import backbone
from clbench.models.missing import missing_weights
from clbench.plugins.loading import key_of
from clbench.plugins.recipes import HASHES, NAMES, NotLoaded, names_in
from clbench.recipe.recipe import Recipe, parse
from clbench.report.gather import Run
from clbench.streams import Shelf, Storage, Stream, data_sets
from clbench.streams.domain import DomainConfig
from clbench.submission.located import NotFound, located, odd_option, pinned
from clbench.submission.submission import PackedRun, Submission

#: Streams that other libraries make or fetch: what they do is not clbench's to bound.
LIBRARIES = ("avalanche", "torchvision", "huggingface")
#: Bytes of images that are laid out for a check.
MOST_BYTES = 4 << 30
#: Bytes of the orders of pixels that tasks of a stream are seen in.
MOST_ORDERS = 256 << 20
#: The largest number in a network's options, by what is known to be a width, and of all others:
#: there may be so many layers.
MOST_WIDTH, MOST_OPTION = 4096, 64
WIDTHS = ("width", "embed_dim", "img_size", "patch_size", "window_size", "num_features")
#: What of a recipe a plugin can bring, besides a stream and a network.
_OF_PLUGINS = (NAMES, HASHES, "methods", "metrics", "callbacks", "representation")
_Made = TypeVar("_Made")


@final
class NotMade(Exception):
    """A check cannot be made here: its message says what it needs."""


@final
class Here:
    """This machine, asked the same thing once.

    Args:
        data_dir: where data sets lie.
        others: submissions whose weights must be the same under the same name.
    """

    def __init__(self, data_dir: Path, others: Sequence[Submission] = ()) -> None:
        self.data_dir, self.others = data_dir, tuple(others)
        self._known: dict[tuple[str, str], Any] = {}

    def recipe(self, run: Run) -> Recipe:
        """The recipe of a run, with this machine's data.

        Raises:
            NotMade: if there is none, or it needs a plugin.
            ClbenchError: if this clbench has no such recipe.
        """
        if not run.recipe:
            raise NotMade("there is no recipe, neither in the record nor in config.yaml")
        values = {k: v for k, v in run.recipe.items() if k not in ("seed", "name")}
        found = self._once("recipe", values, lambda: self._parsed(values))
        return found.model_copy(update={"seed": run.seed, "name": run.record.run.title})

    def _parsed(self, values: Mapping[str, Any]) -> Recipe:
        try:
            recipe = parse(values)
        except NotLoaded as error:
            names = [*(values.get(HASHES) or ()), *map(key_of, names_in(values))]
            told = f"the plugin {names[0]!s:.100}" if names else "a plugin"
            raise NotMade(f"needs {told}, and no code that a submission names is loaded") from error
        return recipe.model_copy(update={"data_dir": self.data_dir, "loggers": {}})

    def _read(self, run: Run) -> Recipe:
        try:
            return self.recipe(run)
        except ClbenchError as error:
            raise NotMade("its recipe is none of this clbench") from error

    def local(self, run: Run) -> Recipe:
        """The recipe of a run as far as it makes the stream, whose paths lie in the data folder.

        What plugins bring is left out, so that naming one turns no check of the data off; a stream
        that one of them makes is unknown without it.

        Raises:
            NotMade: if there is none, or images that it names are not there.
        """
        try:
            self._read(run)
            values = dict(run.recipe)
        except NotMade:
            if not run.recipe.get(HASHES) and not run.recipe.get(NAMES):
                raise
            values = {k: v for k, v in run.recipe.items() if k not in _OF_PLUGINS}
            values["per_task"] = _images_only(run.recipe.get("per_task"))
        try:  # of its weights and of retention, no check of a stream asks
            stream = located({"stream": values.get("stream")}, self.data_dir)["stream"]
        except NotFound as error:
            raise NotMade(str(error)) from error
        own = {k: v for k, v in values.items() if k not in ("seed", "name")} | {"stream": stream}
        found: Recipe = self._once("local", own, lambda: _or_not(lambda: self._parsed(own)))
        return found.model_copy(update={"seed": run.seed})

    def sizes(self, run: Run) -> Stream:
        """The stream of a run in outline: its tasks have the right number of made-up images.

        Raises:
            NotMade: if its data is neither here nor of a known size.
            ClbenchError: if there is no such stream, of data of a known size.
        """
        recipe = self._own_data(run)
        key = recipe.model_dump(mode="json", include={"stream"})
        plain = recipe.model_copy(update={"images": Storage(size=32), "per_task": {}})

        def made() -> Stream:
            try:
                return outline(plain)[0]
            except ClbenchError as error:
                if _is_of_known_size(run):
                    raise  # no data is asked for: the stream itself is refused
                raise NotMade(reason(error)[:200]) from error

        return self._once("outline", key, lambda: _or_not(made, refused=False))

    def stream(self, run: Run) -> Stream:
        """The stream of a run, with its images.

        Raises:
            NotMade: if its data is not here.
        """
        recipe = self._own_data(run)
        if any("images" in changes for changes in recipe.per_task.values()):
            raise NotMade("single data sets of it are stored in their own way")
        tasks, side = len(self.sizes(run).tasks), recipe.images.stored or recipe.images.size
        if tasks != len(run.record.run.tasks):
            raise NotMade("the recipe makes another number of tasks than the record has")
        if isinstance(recipe.stream, DomainConfig) and tasks * side**2 * 8 > MOST_ORDERS:
            raise NotMade(f"{tasks} orders of {side} x {side} pixels are too many to make")
        key = recipe.model_dump(mode="json", include={"stream", "images"})
        config = recipe.stream.model_copy(update={"download": False})
        local = recipe.model_copy(update={"stream": config, "per_task": {}})
        return self._once("stream", key, lambda: _or_not(lambda: local.build_stream(_UNDECODED)))

    def _own_data(self, run: Run) -> Recipe:
        """The recipe, if its stream is none that another library makes or fetches."""
        recipe = self.local(run)
        if recipe.stream.name in LIBRARIES:
            raise NotMade(f"{recipe.stream.name} makes its images")
        return recipe

    def parameters(self, run: Run) -> int:
        """How many parameters the network of a run has, with rows for all of its classes.

        Raises:
            NotMade: if this machine cannot tell.
        """
        recipe, classes = self._read(run), len(run.record.run.class_names)
        refuse_places(recipe)
        options = recipe.model.options.items()
        if large := [
            k for k, v in options if _is_large(v, MOST_WIDTH if k in WIDTHS else MOST_OPTION)
        ]:
            raise NotMade(f"model.options.{large[0]} asks for a network too large to look at")
        config = recipe.model.model_copy(update={"weights": "none"})
        size = recipe.images.size

        def count() -> int:
            backbone.check(config)  # timm itself would fetch from addresses
            with torch.device("meta"):  # shapes alone
                model = backbone.create(config, classes, size)
            return sum(p.numel() for p in model.parameters())

        key = {"of": config.backbone, "options": config.options, "classes": classes, "size": size}
        return self._once("parameters", key, lambda: _or_not(count))

    def weights(self, run: Run) -> str:
        """SHA-256 of the pretrained weights that a run's recipe names, where they lie here.

        Raises:
            NotMade: if they do not.
        """
        model = self._read(run).model
        try:
            place = pinned(model.weights, run.record.run.weights.source)
            named = located({"model": {"weights": place}}, self.data_dir)["model"]
        except NotFound as error:
            raise NotMade(str(error)) from error
        model = model.model_copy(update=named)
        if model.weights in ("none", "pretrain"):
            raise NotMade(f"weights: {model.weights} are made by the run itself (--rerun)")
        if model.options:
            raise NotMade("its network has options")

        def load() -> str:
            if (lacking := missing_weights(model)) is not None:
                raise NotMade(f"needs {lacking.what}")
            return backbone.load(model, 1, 224).sha256

        return self._once("weights", model.model_dump(mode="json"), lambda: _or_not(load))

    def _once(self, what: str, key: Mapping[str, Any], make: Callable[[], _Made]) -> _Made:
        place = what, json.dumps(key, sort_keys=True, default=str)
        if place not in self._known:
            try:
                self._known[place] = make()
            except (NotMade, ClbenchError) as error:
                self._known[place] = error
        found = self._known[place]
        if isinstance(found, NotMade | ClbenchError):
            raise found
        return found


def _keep(storage: Storage, one: Labelled, side: int, name: str, data_dir: Path) -> Images:
    """Images of which only the contents are asked: files are neither decoded nor cached.

    Raises:
        NotMade: if they take too much memory.
    """
    if not isinstance(one.images, np.ndarray):
        return storage.files(one.images, side)
    if (size := len(one.labels) * 3 * side**2) > MOST_BYTES:
        raise NotMade(f"its images take {size / 1e9:.0f} GB at {side} pixels")
    return storage.open(one, side, name, data_dir)


_UNDECODED = Shelf(keep=_keep)


def _images_only(per_task: Any) -> dict[str, Any]:
    """What single data sets have of their own, as far as it is about their images."""
    return {
        name: {"images": changes["images"]}
        for name, changes in (per_task.items() if isinstance(per_task, dict) else ())
        if isinstance(changes, dict) and "images" in changes
    }


def _is_of_known_size(run: Run) -> bool:
    """Whether a stream is made of data sets whose sizes clbench knows."""
    stream = run.recipe.get("stream") or {}
    names = stream.get("datasets") or data_sets(stream.get("name", ""))
    return isinstance(names, list | tuple) and bool(names) and all(n in SIZES for n in names)


def _or_not(make: Callable[[], _Made], refused: bool = True) -> _Made:
    """What is made, or why not; what clbench refuses is no reason but with ``refused``."""
    try:
        return make()
    except (ClbenchError, OSError, MemoryError) as error:
        if isinstance(error, ClbenchError) and not refused:
            raise
        raise NotMade(reason(error)[:200]) from error


def refuse_places(recipe: Recipe) -> None:
    """Make nothing of a network whose options name places.

    Raises:
        NotMade: naming the option.
    """
    if name := odd_option(recipe.model.options):
        raise NotMade(f"model.options.{name} could name a place: no stranger's is followed")


def _is_large(value: Any, most: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return len(value) > MOST_OPTION or any(_is_large(one, most) for one in value)
    return isinstance(value, int | float) and abs(value) > most


def drawn(one: PackedRun) -> bool:
    """Whether the seed of a run draws its first weights."""
    return one.run.record.run.weights.source in ("none", "pretrain")
