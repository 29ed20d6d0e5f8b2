"""What methods share that classify by statistics of features, taken once after each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.errors import ClbenchError
from clbench.methods.base import Context, Method, Needs
from clbench.models.backbone import features
from clbench.models.modes import evaluating
from clbench.models.reference import plain_network
from clbench.processes.processes import gathered, rank_and_world
from clbench.weights import State


class Found(NamedTuple):
    """Some samples of a task.

    Attributes:
        features_BF: float64, of the trunk.
        labels_B: int64, global labels.
    """

    features_BF: Tensor
    labels_B: Tensor


class Collecting(Method):
    """Statistics of a task's features, taken in one pass without augmentation; abstract.

    Their place in the recipe says on which trunk: after ``wise_ft`` that is the average. What was
    collected of earlier tasks stays as it is, on a trunk that is trained further as well.
    """

    needs: ClassVar[Needs] = Needs(task_boundaries=True)
    makes_head: ClassVar[bool] = True
    trained: ClassVar[str] = "tuned: first"

    tuned: Literal["never", "first", "always"] = Field(
        "never",
        description="in which tasks the network is trained before its features are taken: in none, "
        "so that a task has no steps, in the first alone, or in all",
    )

    _trains: bool = False
    _head: tuple[str, ...] = ()
    #: Statistics of the tasks so far: tensors by name.
    _memory: dict[str, Any] = {}
    _activity: dict[str, float] = {"active": 0.0}

    @property
    def last_trained(self) -> int | None:
        return {"never": 0, "first": 1, "always": None}[self.tuned]

    @property
    def carries(self) -> bool:
        """Whether the head that is made of statistics goes on; one that is trained does instead."""
        return self.tuned == "never"

    def start(self, context: Context) -> None:
        self._head = context.head
        self._trains = self.tuned == "always" or (self.tuned == "first" and context.first)
        if context.first:
            self.forget()

    def forget(self) -> None:
        """Begin anew, as nothing comes before the task."""
        self._memory = {}

    def trainable(self, name: str) -> bool:
        return self._trains

    def activity(self) -> dict[str, float]:
        return self._activity

    def state_dict(self) -> dict[str, object]:
        return dict(self._memory)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._memory = dict(state)


def collected(
    theta: State,
    context: Context,
    split: Split | None = None,
    look: Callable[[nn.Module, Tensor], Tensor] = features,
    times: int = 1,
) -> Iterator[Found]:
    """Images through the network with the weights ``theta``, in their order.

    Several processes read a part each, and all get the same of all.

    Args:
        theta: weights of the plain network.
        context: of the task.
        split: the images; default: those that the task trains on.
        look: makes features (B, times·F) of images.
        times: how many of the trunk's features these are, side by side.
    """
    model, train = plain_network(context.model, theta), split
    if train is None:
        train = context.task.train
    width = times * model.get_classifier().in_features  # type: ignore[operator]
    rank, world = rank_and_world()
    parts = torch.arange(len(train)).split(world * context.reader.batch_size)
    mine = [part[rank::world] for part in parts]
    ready = context.reader.batches(train, context.device, mine)
    with evaluating(model), torch.no_grad():
        for part, own in zip(parts, mine, strict=True):
            found = torch.empty(0, width, device=context.device)
            if len(own):
                with context.reader.autocast():
                    found = look(model, next(ready).inputs).float()
            order = torch.cat([part[one::world] for one in range(world)]).argsort()
            labels_B = train.labels[part].to(context.device)
            yield Found(gathered(found)[order.to(found.device)].double(), labels_B)


def with_rows(
    theta: State, context: Context, rows_C: Tensor, weight_CF: Tensor, bias_C: Tensor | None
) -> State:
    """Weights with other rows of the head.

    Args:
        theta: weights of the plain network.
        context: of the task.
        rows_C: bool, which rows.
        weight_CF: of the head.
        bias_C: of the head; None: there is none.

    Raises:
        ClbenchError: if the head has no bias, and needs one.
    """
    names = {name.rpartition(".")[2]: name for name in context.head}
    if "bias" not in names and bias_C is not None:
        raise ClbenchError(
            "the network's head has no bias, which its new rows need: choose another backbone, a "
            "method without biases (ncm with metric: cosine) or one without a head (ranpac)"
        )
    wanted = {"weight": weight_CF, "bias": torch.zeros_like(weight_CF[:, 0])}
    if bias_C is not None:
        wanted["bias"] = bias_C
    changed = {}
    for leaf, name in names.items():
        changed[name] = theta[name].clone()
        changed[name][rows_C.to(theta[name].device)] = wanted[leaf][rows_C].to(theta[name])
    return theta | changed
