"""What methods share that train low-rank updates of frozen weights, and merge them after a task."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from timm.models.swin_transformer import WindowAttention
from timm.models.vision_transformer import Attention  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from clbench.errors import ClbenchError
from clbench.methods.base import Context, Method, Needs
from clbench.methods.kinds import LOW_RANK, PROMPTS
from clbench.methods.targets import layers
from clbench.models.backbone import head_names
from clbench.weights import State

if TYPE_CHECKING:
    from clbench.methods.plan import Training

#: How torch names what the parametrizations of a module's weight hold.
HELD = ".parametrizations.weight."
ORIGINAL = f"{HELD}original"
#: Attention whose layer ``qkv`` holds queries, keys and values one under the other.
FUSED = (Attention, BeitAttention, EvaAttention, WindowAttention)

FACTORS = "the latter averages weights, and the former trains factors of them"
WAY = (
    "the former trains factors of the weights whose way the latter follows (ewc and mas go with it)"
)

#: Parametrizations of a weight, one after the other.
Updates = list[nn.Module]
#: Of each layer, the rows that have updates of their own, by a name; None: all.
Targets = dict[str, dict[str, Tensor | None]]


def low_rank(
    weight: Tensor, down: Tensor, up: Tensor, scale: float, rows: Tensor | None = None
) -> Tensor:
    """The weight with a low-rank update, W_0 + scale·B·A.

    Args:
        weight: W_0, (out, in), or of a convolution (out, in/groups, height, width).
        down: A, (r, n), n the entries of one output's row of the weight.
        up: B, (out, r), or of as many rows as ``rows`` has.
        scale: α/r.
        rows: int64, the rows that are updated; default: all.

    >>> one = torch.ones(1, 1)
    >>> low_rank(torch.zeros(3, 1), one, one, 2.0, torch.tensor([1])).T
    tensor([[0., 2., 0.]])
    """
    change = scale * (up @ down)
    if rows is None:
        return weight + change.view_as(weight)
    return weight.index_add(0, rows, change.view(len(rows), *weight.shape[1:]))


def freedom(rows: int, columns: int, rank: int) -> int:
    """The dimension of the set of rows × columns matrices of a rank, r·(rows + columns − r).

    >>> freedom(4, 6, 4) == 4 * 6  # a full rank is no restriction
    True
    """
    return rank * (rows + columns - rank)


class LowRank(nn.Module):
    """A parametrization of a weight by :func:`low_rank`; changes nothing at the start; final.

    Args:
        weight: W_0; gives shape, type and device.
        rank: r; at most what the shape allows.
        scale: α/r.
        rows: the rows of the weight that are updated; None: all.
    """

    rows: Tensor | None

    def __init__(self, weight: Tensor, rank: int, scale: float, rows: Tensor | None = None) -> None:
        super().__init__()
        count = weight.shape[0] if rows is None else len(rows)
        columns = weight[0].numel()
        rank = min(rank, count, columns)
        self.scale = scale
        self.A = nn.Parameter(weight.new_empty(rank, columns))
        self.B = nn.Parameter(weight.new_zeros(count, rank))
        self.register_buffer("rows", None if rows is None else rows.to(weight.device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # torch's own for linear layers

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its update, in full precision, as when merged."""
        with torch.autocast(weight.device.type, enabled=False):
            return low_rank(weight, self.A, self.B, self.scale, self.rows)


class LowRankUpdates(Method):
    """Trains updates of frozen weights and the head, and merges them after every task; abstract.

    Biases and normalisation stay as they are, running statistics included. Each task starts from
    the merged weights, with new factors.
    """

    needs: ClassVar[Needs] = Needs(task_boundaries=True)
    clashes: ClassVar[Mapping[str, str]] = {
        "sfa": f"{FACTORS}; wise_ft with anchor: previous averages the merged weights after a task",
        **dict.fromkeys(("fisher_merge", "ewc_merge", "cofima"), FACTORS),
        "si": WAY,
        "rwalk": WAY,
        "linear_probe": "the latter freezes what the former trains",
        **dict.fromkeys(PROMPTS, "each freezes what the other trains"),
        **dict.fromkeys(LOW_RANK, "each has updates of its own of the same layers"),
    }
    #: What it is called in a recipe, for messages.
    called: ClassVar[str]
    #: Leaves of the names of what is trained.
    factors: ClassVar[tuple[str, ...]] = ("A", "B")

    if TYPE_CHECKING:  # fields of those below, each with a default of its own
        rank: int
        targets: tuple[str, ...]

    _head: tuple[str, ...] = ()
    _updates: dict[str, Updates] = {}
    _activity: dict[str, float] = {"active": 0.0}

    @property
    def thirds(self) -> str:
        """Letters of queries, keys, values: what has updates in attention; empty: all as one."""
        return ""

    def refuses(self, recipe: Training, sketch: nn.Module | None) -> str:
        try:
            if sketch is not None and self.targets:
                layers(sketch, self.targets, self.called)
        except ClbenchError as error:
            backbone = recipe.model.backbone
            return f"has nothing to update in model.backbone = {backbone!r}: {error}: name others"
        return ""

    @abstractmethod
    def updates(self, layer: str, part: str, weight: Tensor, rows: Tensor | None) -> Updates:
        """Parametrizations, one after the other, of the rows of a layer's weight.

        Args:
            layer: its name.
            part: the name of these rows in it.
            weight: the whole of it.
            rows: int64; None: all.
        """

    def surgery(self, model: nn.Module) -> nn.Module:
        changed, self._updates = _copy_sharing_weights(model), {}
        for name, parts in targeted(changed, self.targets, self.thirds, self.called).items():
            module = changed.get_submodule(name)
            weight: Tensor = module.weight.detach()  # type: ignore[operator, assignment]
            made = [u for part in parts for u in self.updates(name, part, weight, parts[part])]
            for update in made:
                parametrize.register_parametrization(module, "weight", update)
            self._updates[name] = made
        return changed

    def start(self, context: Context) -> None:
        self._head = context.head

    def trainable(self, name: str) -> bool:
        return name in self._head or (HELD in name and name.endswith(self.factors))

    def unwrap(self, theta: State) -> State:
        merged = {name: tensor for name, tensor in theta.items() if HELD not in name}
        squares, free, whole = 0.0, 0, 0
        for layer, updates in self._updates.items():
            if layer + ORIGINAL not in theta:
                continue
            weight = before = theta[layer + ORIGINAL]
            for place, update in enumerate(updates):
                prefix = f"{layer}{HELD}{place}."
                held = {n.removeprefix(prefix): x for n, x in theta.items() if n.startswith(prefix)}
                weight = functional_call(update, held, (weight,))
                free += self.freedom_of(update)
                whole += len(update.B) * update.A.shape[1] if isinstance(update, LowRank) else 0
            squares += float((weight - before).square().sum())
            merged[f"{layer}.weight"] = weight
        trained = [x.numel() for n, x in theta.items() if HELD in n and n.endswith(self.factors)]
        if trained:
            self._activity = {
                "active": float(squares > 0),
                "scope": max(0.0, 1 - free / whole),
                "update_norm": math.sqrt(squares),
                "adapter_parameters": float(sum(trained)),
            }
        return merged

    def freedom_of(self, update: nn.Module) -> int:
        """In how many directions an update can move its weight."""
        assert isinstance(update, LowRank)
        return freedom(len(update.B), update.A.shape[1], len(update.A))

    def activity(self) -> dict[str, float]:
        return self._activity


def thirds_field(default: str) -> Any:
    """The field ``qkv`` of :class:`AttentionUpdates`."""
    return Field(
        default,
        pattern="^q?k?v?$",
        description="letters of queries, keys and values: what is updated of layers qkv, each by "
        "itself; empty: all, as one",
    )


class AttentionUpdates(LowRankUpdates):
    """Updates of attention's queries, keys or values, unless layers are named; abstract."""

    targets: tuple[str, ...] = Field(
        (),
        description="patterns of layer names; default: attention's layers qkv, or all linear and "
        "convolutional layers but the head of a network without these",
    )
    qkv: str = thirds_field("kv")

    @property
    def thirds(self) -> str:
        return self.qkv


def targeted(model: nn.Module, targets: tuple[str, ...], thirds: str, called: str) -> Targets:
    """What of a network has updates.

    Args:
        model: a timm model.
        targets: patterns with ``*`` and ``?``, over the whole name of a layer; none: attention's
            fused layers, or all layers where there are none.
        thirds: letters of queries, keys and values that are updated in attention's fused layers;
            empty: all, as one.
        called: the method's name, for messages.

    Raises:
        ClbenchError: if a pattern matches none.
    """
    fused = [f"{n}.qkv" for n, m in model.named_modules() if isinstance(m, FUSED) and m.qkv]
    found: Targets = {}
    for name in (
        layers(model, targets, called) if targets else fused or layers(model, ("*",), called)
    ):
        found[name] = {"": None}
        if thirds and name in fused:
            size = len(model.get_submodule(name).weight) // 3  # type: ignore[arg-type]
            each = zip("qkv", torch.arange(3 * size).split(size), strict=True)
            found[name] = {letter: rows for letter, rows in each if letter in thirds}
    return found


def _copy_sharing_weights(model: nn.Module) -> nn.Module:
    """A copy that shares the memory of what stays frozen, all parameters but the head's."""
    head = head_names(model)
    shared = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False)
        for name, parameter in model.named_parameters()
        if name not in head
    }
    return copy.deepcopy(model, shared)
