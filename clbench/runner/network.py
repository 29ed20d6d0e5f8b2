"""The network of a run: its weights from task to task, its head, and the anchors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from clbench.data.reader import Reader
from clbench.data.transforms import Transform
from clbench.data.words import few
from clbench.errors import ClbenchError
from clbench.learner.deploy import Weights
from clbench.methods import name_of
from clbench.methods.base import Method, overriding
from clbench.models import backbone
from clbench.models.anchors import Anchor, Anchors, named_weights
from clbench.models.batch_norm import statistics
from clbench.models.pretraining import pretrain
from clbench.models.training import learned_rows, put_rows, train_head
from clbench.processes.processes import say
from clbench.recipe.recipe import Recipe
from clbench.runner.flops import Flops
from clbench.runner.parts import Passes
from clbench.seeding import derive, seed_everything
from clbench.streams import Stream, Task
from clbench.weights import State, snapshot


class Network:
    """A network with its pretrained weights, which learns one task after the other.

    Args:
        recipe: which network, which weights.
        stream: its classes make the head, its pretraining data the weights, where asked for.
        device: where to train.
        anchor_device: where the anchors lie: with the network if a method reads them often.
        autocast: makes the context of forward passes (mixed precision).

    Raises:
        ClbenchError: if the network or its weights cannot be had.
    """

    def __init__(
        self,
        recipe: Recipe,
        stream: Stream,
        device: torch.device,
        anchor_device: torch.device,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.recipe, self.stream, self.device = recipe, stream, device
        self.anchor_device, self.autocast = anchor_device, autocast
        trained = self._pretrain() if recipe.model.weights == "pretrain" else None
        seed_everything(recipe.seed)
        size, classes = recipe.images.size, len(stream.class_names)
        self.pretrained = backbone.load(recipe.model, classes, size, trained)
        self.model = self.pretrained.model.to(device)
        wanted = recipe.model.channels_last
        self.channels_last = (
            backbone.prefers_channels_last(self.model, device) if wanted is None else wanted
        )
        if self.channels_last:  # before any copy is taken: fused kernels need equal layouts
            self.model.to(memory_format=torch.channels_last)
        self.head = backbone.head_names(self.model)
        self.theta_pretrained = snapshot(self.model, anchor_device)
        self.grown = False  # by what methods have added
        self.held: State | None = None  # a copy of the weights as they are, if there is one
        self.passes = Passes(self.model)
        self.flops = Flops(self.passes, recipe.images.size)

    def transform(self, recipe: Recipe) -> Transform:
        """From stored images to input, with the augmentation of a task's recipe."""
        images = recipe.images
        return Transform(
            images.size,
            images.mean or self.pretrained.mean,
            images.std or self.pretrained.std,
            recipe.augment,
        )

    def reader(self, recipe: Recipe) -> Reader:
        """How images are read where a task does not train on them."""
        transform, workers = self.transform(recipe), recipe.images.workers
        return Reader(transform, recipe.eval_batch_size, workers, self.autocast)

    def adapt(self, methods: Sequence[Method], task: Task, theta: State) -> State:
        """Let methods change the network for good, before a task.

        What they add is θ_*'s as it is when added, so that it can be kept near, averaged and
        rewound like everything else.

        Args:
            methods: in order.
            task: that comes.
            theta: the weights to go on from.

        Returns:
            ``theta`` with the new parts' weights.

        Raises:
            ClbenchError: if something that was there has gone, or changed its shape.
        """
        adapting = overriding(methods, "adapt")
        if not adapting:
            return theta
        self.load(theta)
        with torch.random.fork_rng():
            torch.manual_seed(derive(self.recipe.seed, 5, task.index))
            for method in adapting:
                self.model = method.adapt(self.model, task)
        self.model.to(self.device)
        self.held = None
        self.head = backbone.head_names(self.model)
        now = snapshot(self.model, "cpu")
        for name, x in theta.items():
            if name not in now or now[name].shape != x.shape:
                names = "+".join(name_of(method) for method in adapting)
                raise ClbenchError(
                    f"methods.{names}: {name} is gone or has another shape after `adapt`: leave "
                    "what is there, and add parts of other names"
                )
        new = {name: x for name, x in now.items() if name not in theta}
        self.grown |= bool(new)
        self.theta_pretrained |= {name: x.to(self.anchor_device) for name, x in new.items()}
        return theta | new

    def load(self, state: State) -> None:
        """Take weights up; those that are held are there already."""
        if state is not self.held:
            self.held = None
            self.model.load_state_dict(state)
            self.model.to(self.device)

    def show(self, weights: Weights, methods: Sequence[Method]) -> None:
        """Take up the weights that a task shows.

        Those that were trained are there already, unless a method has had a hand in it since.
        """
        touched = any(overriding(methods, hook) for hook in ("surgery", "absorb", "deploy"))
        if weights.shown is weights.trained and not touched:
            self.held = weights.trained
        else:
            self.load(weights.shown)

    def rewind(self, theta: State) -> None:
        """Take up θ_*; of ``theta``, only the head stays, where each task has rows of its own."""
        if self.stream.independent or self.stream.shared:
            self.load(self.theta_pretrained)
        else:
            self.load(self.theta_pretrained | {name: theta[name] for name in self.head})

    def probe(self, task: Task, recipe: Recipe, learned: Tensor) -> Tensor:
        """Train the task's rows of the head on the frozen trunk; the samples' losses (N,).

        With ``model.probe.batch_norm: train`` the network has other running statistics afterwards,
        and the task starts from them: they are θ_o's, not θ_*'s.

        Args:
            task: the task.
            recipe: its settings.
            learned: bool (C,), rows learned on the trunk as it is. Tasks that share them go on
                from there; other rows start at random.
        """
        head, losses = train_head(
            self.model,
            task,
            self.reader(recipe),
            recipe.model.probe,
            recipe.seed,
            4,
            task.index,
            start=learned_rows(self.model.state_dict(), self.head, task.classes, learned),
        )
        put_rows(self.model.state_dict(), self.head, task.classes, head)
        return losses

    def anchors(
        self, theta: State, learned: Tensor, probed: Tensor, from_pretrained: bool
    ) -> Anchors:
        """θ_* and θ_o at the start of a task.

        A row of the head counts as learned on an anchor if it was trained on its own trunk. Rows
        that tasks share are θ_o's as the task before left them, though the head is probed again.

        Args:
            theta: the weights that the task goes on from.
            learned: bool (C,), rows learned in earlier tasks.
            probed: bool (C,), rows just probed on the weights as they are.
            from_pretrained: whether the trunk is θ_* as it is now.
        """
        now = self._now(bool(probed.any()))
        self.held = None  # from here on they are trained
        pretrained = Anchor(self.theta_pretrained, self._mask(torch.zeros_like(probed)))
        if from_pretrained:
            head = {name: now[name] for name in self.head}
            pretrained = Anchor(self.theta_pretrained | head, self._mask(probed))
        again = self._mask(learned & probed)
        for name in self.head if again.any() else ():
            now[name][again] = theta[name].to(again.device)[again]
        return Anchors(pretrained, Anchor(now, self._mask(learned | probed)))

    def _now(self, probed: bool) -> State:
        """The weights as they are, where anchors lie; of what is held, only a probe's are copied.

        Args:
            probed: whether the head was probed since they were taken up.
        """
        if self.held is None or self.anchor_device.type != "cpu" or self.device.type != "cpu":
            return snapshot(self.model, self.anchor_device)
        there, own = self.model.state_dict(), [*self.head, *statistics(self.model)] * probed
        return self.held | {name: there[name].detach().clone() for name in own}

    def _mask(self, rows: Tensor) -> Tensor:
        return rows.to(self.anchor_device)

    def _pretrain(self) -> State:
        recipe = self.recipe
        plain, cache = pretraining_transform(recipe), recipe.data_dir / "cache"
        return pretrain(recipe.model, self.stream, plain, recipe.seed, self.device, cache, say)


def pretraining_transform(recipe: Recipe) -> Transform:
    """The input of in-run pretraining."""
    images, half = recipe.images, (0.5, 0.5, 0.5)
    return Transform(images.size, images.mean or half, images.std or half, recipe.augment)


def beyond(methods: Sequence[Method], keep: str, grown: bool) -> None:
    """Say what of a network is not in the weights that a run leaves, or not in timm's network.

    Args:
        methods: in order.
        keep: the recipe's ``checkpoints``.
        grown: whether methods have added to the network.
    """
    for method in overriding(methods, "classifier"):
        where = (
            "what classifies goes with the checkpoints (checkpoints: none), so that load_model.py "
            "cannot have it: for that, run again with checkpoints: last."
            if keep == "none"
            else "what classifies is in the checkpoint, from which load_model.py takes it."
        )
        say(
            f"{name_of(method)} classifies in place of the head: model.safetensors has the trunk; "
            f"{where}"
        )
    for method in overriding(methods, "adapt") if grown else ():
        say(
            f"{name_of(method)} added to the network: model.safetensors has parts that timm's "
            "lacks; load_model.py adds them, which needs clbench."
        )


def restrict(model: nn.Module, methods: Sequence[Method]) -> bool:
    """Freeze what a method does not train; whether anything is left."""
    rules = overriding(methods, "trainable")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(all(method.trainable(name) for method in rules))
    return any(parameter.requires_grad for parameter in model.parameters())


def operated(methods: Sequence[Method], model: nn.Module) -> nn.Module:
    """The network after the methods' surgery.

    Raises:
        ClbenchError: if it has other weights than before, which nothing could be compared with.
    """

    def names(of: nn.Module) -> set[str]:
        with torch.no_grad():
            return {name for name, _ in named_weights(of)}

    for method in overriding(methods, "surgery"):
        changed = method.surgery(model)
        if apart := sorted(names(changed) ^ names(model)):
            raise ClbenchError(
                f"{name_of(method)}: surgery adds or takes away {few(apart)}: put a "
                "parametrization on a layer, whose name stays (torch.nn.utils.parametrize), or add "
                "modules in adapt"
            )
        model = changed
    return model
