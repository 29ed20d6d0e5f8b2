"""What can be known before the first step is tried before it: in seconds, before data is read.

A run's network is built with its weights, run once on a random image and trained for one step of
the run's own :class:`~clbench.learner.learner.Learner` and Trainer, at the run's image size,
precision, clipping, accumulation and smallest batch. It is thrown away afterwards: the run builds
its own from its own seeds, so that nothing here reaches the results.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from clbench.data.batches import Batches, Examples, Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Transform
from clbench.errors import ClbenchError, reason
from clbench.learner.learner import Learner
from clbench.learner.trainer import accumulated, fit, make_trainer
from clbench.methods import METHODS, name_of
from clbench.methods.base import Context, Method, overriding
from clbench.models import backbone
from clbench.models.anchors import Anchor, Anchors
from clbench.models.batch_norm import least_batch
from clbench.models.loss import ClassLoss
from clbench.processes.processes import apart
from clbench.recipe.attached import make_callbacks
from clbench.recipe.early_stopping import EarlyStopping
from clbench.recipe.recipe import Recipe
from clbench.runner.network import operated
from clbench.seeding import generator
from clbench.streams import Task
from clbench.weights import bytes_in

#: Rows of the head; the stream's are not known yet.
CLASSES = 2


def preflight(
    recipe: Recipe, folder: Path | None, trainer: L.Trainer, elsewhere: str = "say --output"
) -> int:
    """Try out what a run will do, before its data is read.

    Args:
        recipe: the run's.
        folder: the run folder; None: there is none.
        trainer: one of the run's, as :func:`~clbench.learner.trainer.make_trainer` makes it.
        elsewhere: how to say that the folder is to be on another disk.

    Returns:
        How many images the network needs at a time.

    Raises:
        ClbenchError: one line: what does not work, why, and the way out.
    """
    make_callbacks(recipe.callbacks)
    device: torch.device = trainer.strategy.root_device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        model = built(recipe, device).to(device)
        if folder is not None:
            _space(model, folder, elsewhere)
        _logits(recipe, model)
        least = _step(recipe, model, device)
    if devices:
        del model
        torch.cuda.empty_cache()
    return least


def built(recipe: Recipe, device: torch.device) -> nn.Module:
    """The network with its weights; those of in-run pretraining are not there yet."""
    config, size = recipe.model, recipe.images.size
    if config.weights == "pretrain":
        config = config.model_copy(update={"weights": "none"})
    try:
        model = backbone.load(config, CLASSES, size).model
        backbone.head_names(model)
    except ClbenchError:
        raise
    except Exception as error:  # a thousand networks, each with failures of its own
        raise ClbenchError(f"{named(recipe)} cannot be built: {reason(error)}") from error
    wanted = config.channels_last
    if wanted or (wanted is None and backbone.prefers_channels_last(model, device)):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _space(model: nn.Module, folder: Path, elsewhere: str) -> None:
    """The run folder holds at least a checkpoint and the exported weights."""
    needed = 2 * bytes_in(model.state_dict())
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ClbenchError(f"the run folder {folder} cannot be used: {error.strerror}") from error
    if free < needed:
        raise ClbenchError(
            f"{folder}: {free / 1e6:,.2f} MB are free there, and the weights alone will take "
            f"{needed / 1e6:,.2f} MB: make room, or {elsewhere} on another disk"
        )


def _logits(recipe: Recipe, model: nn.Module) -> None:
    """The network's logits are those of its one linear head on its features."""
    size, device = recipe.images.size, next(model.parameters()).device
    image = torch.randn(1, 3, size, size, generator=generator(0)).to(device)
    model.eval()
    head: nn.Module = model.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        logits = _run(recipe, lambda: model(image))
        if not isinstance(logits, Tensor) or logits.shape != (1, CLASSES):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ClbenchError(
                f"{named(recipe)} gives {given} for an image of {CLASSES} classes, and not one "
                f"logit a class: choose other model.options or another backbone"
            )
        found = _run(recipe, lambda: head(backbone.features(model, image)))
    room = 1e-2 * float(logits.abs().max()) + 1e-4  # TF32 rounds to about a thousandth
    if found.shape != logits.shape or float((found - logits).abs().max()) > room:
        raise ClbenchError(
            f"{named(recipe)}: its logits are not those of its last layer on its features (it "
            "may have two heads), which probes and retention go by: choose another backbone"
        )


def _run(recipe: Recipe, forward: Callable[[], Tensor]) -> Tensor:
    try:
        return forward()
    except Exception as error:  # whatever a network's own code raises
        size = recipe.images.size
        raise ClbenchError(
            f"{named(recipe)} does not run on {size} × {size} images: {reason(error)}; change "
            "images.size or model.options, or choose another backbone"
        ) from error


def _step(recipe: Recipe, model: nn.Module, device: torch.device) -> int:
    """One step of training, as the run makes it, on as few images as the network needs."""
    model = as_trained(recipe, model)
    head = backbone.head_names(model)
    least = smallest(recipe, model, head)
    if recipe.batch_size < least:
        raise ClbenchError(
            f"batch_size = {recipe.batch_size}: {named(recipe)} has BatchNorm, which needs at "
            f"least {least} images of {recipe.images.size} pixels at a time: say batch_size: "
            f"{least} or more"
        )
    small = one_process(
        recipe.model_copy(update={"steps": 1, "epochs": None, "batch_size": least}),
        devices=[device.index or 0] if device.type == "cuda" else 1,
        accumulate_grad_batches=min(2, accumulated(recipe)),
    )
    batches, context = random_task(small, model, head)
    learner = lone_learner(context, small)
    model.train()
    try:
        with apart():
            trainer = make_trainer(small, 1)
        fit(trainer, learner, batches)
    except ClbenchError:
        raise
    except Exception as error:  # Lightning, torch and the network, each with its own
        given = "".join(f", trainer.{k} = {v!r}" for k, v in recipe.trainer.items())
        raise ClbenchError(
            f"{named(recipe)} cannot be trained on {small.images.size} × {small.images.size} "
            f"images (optimizer.name = {recipe.optimizer.name!r}{given}): {reason(error)}"
        ) from error
    return least


def lone_learner(
    context: Context, recipe: Recipe, on_step: Callable[[int], None] | None = None
) -> Learner:
    """What trains a network as the recipe's methods leave it, without what they add to its steps.

    Args:
        context: of a task that is made up.
        recipe: of as many steps.
        on_step: called after each.
    """
    methods = list(recipe.methods.values())
    learner = Learner(context, [], recipe, on_step=on_step)
    learner.changing = [name_of(method) for method in overriding(methods, "surgery")]
    own = [m for m in overriding(methods, "optimizer") if type(m) in METHODS.values()]
    learner.methods = [method.model_copy(deep=True) for method in own]
    return learner


def as_trained(recipe: Recipe, model: nn.Module) -> nn.Module:
    """The network after its methods' surgery, with what they train, as far as is known before."""
    methods, device = list(recipe.methods.values()), next(model.parameters()).device
    for method in overriding(methods, "adapt"):
        model = method.model_copy(deep=True).adapt(model, _made_up(recipe, 1)).to(device)
    model = operated([method.model_copy(deep=True) for method in methods], model)
    head, rules = backbone.head_names(model), trained_by(methods)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in head or rules(name))
    return model


def trained_by(methods: Sequence[Method]) -> Callable[[str], bool]:
    """Whether a parameter is trained, as far as methods can tell before they have started."""
    restrict = overriding(methods, "trainable")

    def trained(name: str) -> bool:
        try:
            return all(method.trainable(name) for method in restrict)
        except Exception:  # a method of the user's own may need its start
            return True

    return trained


def smallest(recipe: Recipe, model: nn.Module, head: Sequence[str]) -> int:
    """Images that the network needs at a time, with the methods of the recipe.

    The recipe's methods have not started and never will, so that a resumed run finds the same.
    """
    trained, rule = trained_by(list(recipe.methods.values())), recipe.model.batch_norm_training
    return least_batch(model, head, trained, recipe.images.size, rule)


def one_process(recipe: Recipe, **trainer: Any) -> Recipe:
    """The recipe for one process of this machine, with a rate that lets nothing diverge.

    Args:
        recipe: the run's.
        trainer: arguments of the Trainer to put in place.
    """
    arguments = recipe.trainer | {
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    arguments.pop("profiler", None)
    optimizer = recipe.optimizer.model_copy(update={"lr": 1e-9})
    update = {"trainer": arguments | trainer, "optimizer": optimizer, "callbacks": {}}
    return recipe.model_copy(update=update | {"early_stopping": EarlyStopping()})


def random_task(
    recipe: Recipe, model: nn.Module, head: tuple[str, ...], steps: int = 1
) -> tuple[Batches, Context]:
    """A task of as few random images as make so many steps."""
    task = _made_up(recipe, recipe.batch_size * accumulated(recipe) * steps)
    size, split, labels = recipe.images.size, task.train, task.train.labels
    batches = Batches(
        Examples(split),
        recipe.batch_size,
        (0,),
        accumulate=accumulated(recipe),
        augment=recipe.augment,
    )
    rows = torch.ones(CLASSES, dtype=torch.bool)
    anchor = Anchor(model.state_dict(), rows)
    half = (0.5, 0.5, 0.5)
    context = Context(
        task=task,
        model=model,
        head=head,
        anchors=Anchors(anchor, anchor),
        total_steps=steps,
        reader=Reader(Transform(size, half, half, recipe.augment)),
        losses=ClassLoss("all", labels, torch.zeros(CLASSES, dtype=torch.int64), rows),
        seed=0,
        batch_size=recipe.batch_size,
    )
    return batches, context


def _made_up(recipe: Recipe, count: int) -> Task:
    """A task of so many random images."""
    size = recipe.images.size
    shape, random = (count, 3, size, size), generator(0)
    pixels = torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)
    labels = torch.arange(count) % CLASSES
    split = Split(TensorImages(pixels), torch.arange(count), labels)
    return Task(0, "preflight", range(CLASSES), split, split, split)


def named(recipe: Recipe) -> str:
    """The backbone of a recipe, as messages name it."""
    options = f" with model.options = {recipe.model.options}" if recipe.model.options else ""
    return f"model.backbone = {recipe.model.backbone!r}{options}"
