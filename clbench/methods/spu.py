"""SPU: of the first layers of MLPs, the few entries are trained that the task's loss asks for most.

[0] Zhang et al., *Overcoming generic knowledge loss with selective parameter update*, section 3.
[1] The authors' program.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.errors import ClbenchError
from clbench.methods.base import Context, Method, Needs
from clbench.methods.kinds import LOW_RANK, PROMPTS
from clbench.methods.plan import Remark
from clbench.methods.targets import layers
from clbench.methods.task_vectors import largest
from clbench.models.differentiated import differentiated
from clbench.models.reference import plain_network
from clbench.seeding import generator
from clbench.weights import State

if TYPE_CHECKING:
    from clbench.methods.plan import Training


def mean_gradient(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    names: Collection[str],
) -> State:
    """The gradient of a loss's mean over samples, by names of parameters, in evaluation mode.

    Args:
        model: inputs (B, …) to logits (B, C); it is left as it is.
        batches: inputs and labels (B,), on its device; ValueError without any.
        loss: logits and labels to values (B,).
    """
    plain = plain_network(model).eval().requires_grad_(False)
    weights = {n: p.requires_grad_() for n, p in plain.named_parameters() if n in names}
    total, count = [torch.zeros_like(p) for p in weights.values()], 0
    for inputs, labels_B in batches:
        with torch.enable_grad(), differentiated():
            value = loss(plain(inputs), labels_B).sum()
        torch._foreach_add_(total, torch.autograd.grad(value, list(weights.values())))
        count += len(labels_B)
    if not count:
        raise ValueError("batches holds no samples, so there is no gradient")
    return {name: x / count for name, x in zip(weights, total, strict=True)}


class SPU(Method):
    """Trains, in each layer of ``targets``, the entries of largest |gradient| at the task's start.

    The gradient is that of the mean loss over the task's images, not augmented [0]; ``fraction`` of
    each weight is chosen, for the whole task. Biases of these layers and the head are trained in
    full, as in [1]; all else rests, against weight decay too. [0] has replay beside it. CNNs need
    layers of their own::

        methods: {spu: {}, replay: {}}
        methods: {spu: {targets: ["stages.*.conv1"]}}
    """

    summary: ClassVar[str] = "train the tenth of MLPs' first layers that the task's loss asks for"
    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=1)
    still: ClassVar[bool] = True
    scope_means: ClassVar[str] = "the trunk's entries that rest: lower fraction"
    clashes: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (*LOW_RANK, *PROMPTS, "linear_probe", "bitfit", "ln_only"), "each freezes the other's part"
    )

    fraction: float = Field(0.1, gt=0, le=1, description="share of a weight's entries it trains")
    targets: tuple[str, ...] = Field(
        ("*.mlp.fc1",), min_length=1, description="patterns of layer names; default: of timm's ViTs"
    )
    score: Literal["loss", "outputs"] = Field(
        "loss", description="gradient of: the loss, or ‖logits‖² (authors' code)"
    )
    samples: int | None = Field(None, ge=1, description="images of the gradient; default: all")

    _head: tuple[str, ...] = ()
    _layers: frozenset[str] = frozenset()
    _chosen: State = {}  # which entries of a weight are trained
    _before: State = {}
    _blind: bool = False
    _share: float = 0.0

    def refuses(self, recipe: Training, sketch: nn.Module | None) -> str:
        backbone = recipe.model.backbone
        try:
            if sketch is not None:
                layers(sketch, self.targets, "spu")
        except ClbenchError as error:
            way_out = "name layers in methods.spu.targets, or choose a vision transformer"
            return f"has nothing to train on model.backbone = {backbone!r}: {error}: {way_out}"
        return ""

    def trainable(self, name: str) -> bool:
        layer = name.rpartition(".")[0]
        if not self._layers:  # not yet known
            return any(fnmatchcase(layer, pattern) for pattern in self.targets)
        return name in self._head or layer in self._layers

    def start(self, context: Context) -> None:
        model, self._head = context.model, context.head
        self._layers = frozenset(layers(model, self.targets, "spu"))
        names = {f"{layer}.weight" for layer in self._layers}
        split = context.drawn(self.samples, generator(context.seed, 11))
        batches = (b[:2] for b in context.reader.batches(split, context.device))
        own, seen_C = self.score == "loss", context.seen_C
        loss = context.losses if own else lambda z, _: z[:, seen_C].square().sum(1)
        found = mean_gradient(model, batches, loss, names)
        self._blind = not any(map(torch.any, found.values()))
        weights = {n: p.detach() for n, p in model.named_parameters() if n not in self._head}
        self._chosen = {
            name: largest(x.abs().flatten(), self.fraction).view_as(x) for name, x in found.items()
        }
        self._before = {name: weights[name].clone() for name in found}
        masked = sum(int(mask.sum()) - mask.numel() for mask in self._chosen.values())
        full = sum(p.numel() for name, p in weights.items() if self.trainable(name))
        self._share = (full + masked) / sum(p.numel() for p in weights.values())

    def remarks(self) -> Sequence[Remark]:
        why = "the gradient is 0: say model.head: linear_probe"
        return (Remark("no entry is asked for", why),) * self._blind

    def project(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if name in self._chosen and parameter.grad is not None:
                parameter.grad.mul_(self._chosen[name])

    def after_step(self, model: nn.Module, step: int) -> None:
        for name, parameter in model.named_parameters():
            if name in self._chosen:  # weight decay, and whatever else moves what has no gradient
                weight = parameter.detach()
                weight.copy_(torch.where(self._chosen[name], weight, self._before[name]))

    def finish(self, context: Context) -> None:
        self._chosen, self._before = {}, {}

    def activity(self) -> dict[str, float]:
        rests = 1 - self._share
        return {"active": float(rests > 0), "trained_share": self._share, "scope": rests}
