"""ℓ1 and ℓ2: a penalty on the distance from anchor weights.

[0] Kleiman et al., *Soup to go: mitigating forgetting during continual learning with model
    averaging*, which writes ℓ2 as (λ/2)‖θ − θ_o‖² and shows that it is SFA in disguise.
[1] Chen et al., *MoFO: momentum-filtered optimizer for mitigating forgetting in LLM fine-tuning*,
    whose baselines are λ‖θ − θ_*‖₁ with λ = 1e-6 and λ‖θ − θ_*‖² with λ = 1e-3.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from clbench.methods.base import Context, Forward, Method, Needs
from clbench.models.anchors import Anchor, named_weights

#: What the scope of a penalty is; :mod:`clbench.methods.gradient_share` measures it.
GRADIENT_SHARE = "the penalty's share of the gradient along its own direction: raise strength"


def l2_penalty(
    weights: Sequence[Tensor],
    centres: Sequence[Tensor],
    strength: float,
    importance: Sequence[Tensor] | None = None,
) -> Tensor:
    """(λ/2)·Σ F·(θ − θ_c)², the quadratic penalty of [0]; F = 1 for plain ℓ2.

    Value and gradient are worked out together, outside of autograd.

    Args:
        weights: θ, tensors of any shapes.
        centres: θ_c, of the same shapes.
        strength: λ. For the λ‖θ − θ_c‖² of [1], give 2λ.
        importance: F, of the same shapes, or None for ones.

    Returns:
        A scalar () that can be differentiated once with respect to ``weights``.

    Raises:
        ValueError: if ``weights`` is empty, or ``strength`` is negative.

    >>> theta = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> penalty = l2_penalty([theta], [torch.zeros(2)], strength=0.1)
    >>> penalty.backward()
    >>> penalty.item(), theta.grad
    (0.25, tensor([0.1000, 0.2000]))
    """
    _check(weights, strength)
    gradients: list[Tensor]
    with torch.no_grad():
        if importance is None:
            gradients = list(torch._foreach_sub(_detached(weights), list(centres)))
            total = _norms(gradients).square().sum()
        else:
            gradients, totals = [], []
            # Tensor by tensor, so that each difference is still in the cache when it is needed
            # again, and its memory is used for the next one.
            for weight, centre, factors in zip(weights, centres, importance, strict=True):
                difference = weight - centre
                gradients.append(factors * difference)
                totals.append(torch.dot(difference.flatten(), gradients[-1].flatten()))
            total = torch.stack(totals).sum()
        torch._foreach_mul_(gradients, strength)
    return _attach(total * (strength / 2), gradients, weights)


def l1_penalty(weights: Sequence[Tensor], centres: Sequence[Tensor], strength: float) -> Tensor:
    """λ‖θ − θ_c‖₁ [1]; the gradient is 0 where θ = θ_c.

    Args:
        weights: θ, tensors of any shapes.
        centres: θ_c, of the same shapes.
        strength: λ.

    Returns:
        A scalar () that can be differentiated once with respect to ``weights``.

    Raises:
        ValueError: if ``weights`` is empty, or ``strength`` is negative.
    """
    _check(weights, strength)
    with torch.no_grad():
        gradients = torch._foreach_sub(_detached(weights), list(centres))
        total = _norms(gradients, 1).sum()
        torch._foreach_sign_(gradients)
        torch._foreach_mul_(gradients, strength)
    return _attach(total * strength, gradients, weights)


def matched(model: nn.Module, anchor: Anchor, head: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
    """The weights that are trained, each with its anchor.

    Frozen weights are left out, and the rows of the head that the anchor never learned.

    Args:
        model: the network, plain or with parametrisations such as LoRA's.
        anchor: where to stay near.
        head: names of the head's parameters.
    """
    pairs = []
    for name, weight in named_weights(model):
        if not weight.requires_grad:
            continue
        centre = anchor.state[name]
        if name in head:
            weight, centre = weight[anchor.rows], centre[anchor.rows]
        if weight.numel():
            pairs.append((weight, centre))
    return pairs


def penalty_activity(
    penalty: Tensor | None, model: nn.Module, last: Tensor | None
) -> dict[str, float]:
    """What a penalty did, for `Method.activity`.

    Args:
        penalty: the penalty at the end of the task, or None.
        model: what it was computed on.
        last: the penalty that the last training step added to its loss, or None.

    Returns:
        ``penalty`` and ``gradient_norm`` at the end of the task; ``active`` if the last step's
        penalty was not zero.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    values = {"penalty": 0.0, "gradient_norm": 0.0}
    if penalty is not None and parameters:  # none are, where another method trains nothing more
        gradients = torch.autograd.grad(penalty, parameters, allow_unused=True)
        norms = torch._foreach_norm([g for g in gradients if g is not None])
        values = {
            "penalty": float(penalty.detach()),
            "gradient_norm": float(torch.stack(norms).norm()),
        }
    return values | {"active": float(last is not None and float(last) != 0)}


class Penalising(Method):
    """Adds a penalty on the weights to the loss; abstract."""

    neutral: ClassVar[Mapping[str, float]] = {"strength": 0.0}
    scope_means: ClassVar[str] = GRADIENT_SHARE
    pure_penalty: ClassVar[bool] = True

    strength: float = Field(0.0, ge=0, description="λ; 0 is plain fine-tuning")

    _last: Tensor | None = None
    _activity: dict[str, float] = {}

    @abstractmethod
    def _value(self, model: nn.Module) -> Tensor | None:
        """The penalty; None: there is none."""

    def _learn(self, context: Context) -> None:
        """Take up what matters to a task that ends."""

    def start(self, context: Context) -> None:
        self._last = None

    def penalty(self, forward: Forward) -> Tensor | None:
        return self._at(forward.model)

    def _at(self, model: nn.Module) -> Tensor | None:
        value = self._value(model) if self.strength else None
        if value is not None:
            self._last = value.detach()
        return value

    def finish(self, context: Context) -> None:
        last = self._last
        self._activity = penalty_activity(self._at(context.model), context.model, last)
        if self.strength:
            self._learn(context)

    def activity(self) -> dict[str, float]:
        return self._activity


class _Towards(Penalising):
    """A penalty on the distance from an anchor; abstract."""

    needs: ClassVar[Needs] = Needs(task_boundaries=True, copies=1)
    anchored: ClassVar[bool] = True

    anchor: Literal["pretrained", "previous"] = Field(
        "pretrained", description="stay near the pretrained or the previous task's weights"
    )

    _anchor: Anchor | None = None
    _head: tuple[str, ...] = ()

    @abstractmethod
    def _of(self, weights: list[Tensor], centres: list[Tensor]) -> Tensor:
        """The penalty."""

    def start(self, context: Context) -> None:
        super().start(context)
        anchors = context.anchors
        self._anchor = anchors.pretrained if self.anchor == "pretrained" else anchors.previous
        self._head = context.head

    def _value(self, model: nn.Module) -> Tensor | None:
        assert self._anchor is not None
        pairs = matched(model, self._anchor, self._head)
        if not pairs:
            return None
        return self._of([weight for weight, _ in pairs], [centre for _, centre in pairs])


class L2(_Towards):
    """Adds (λ/2)‖θ − θ_anchor‖² to the loss, as in [0]; rows the anchor never learned are free.

    The λ‖θ − θ_*‖² of [1] with its λ = 1e-3 is ``strength: 2e-3`` here. With ``anchor: previous``
    and plain SGD at learning rate η it is SFA that averages after every step with β = η·λ, at
    learning rate η / (1 − η·λ).
    """

    summary: ClassVar[str] = "quadratic penalty on the distance from an anchor"

    strength: float = Field(2e-3, ge=0, description="λ of (λ/2)‖θ − θ_anchor‖²; 0 is off")

    def _of(self, weights: list[Tensor], centres: list[Tensor]) -> Tensor:
        return l2_penalty(weights, centres, self.strength)


class L1(_Towards):
    """Adds λ‖θ − θ_anchor‖₁ to the loss [1]; rows the anchor never learned are free."""

    summary: ClassVar[str] = "absolute penalty on the distance from an anchor"

    strength: float = Field(1e-6, ge=0, description="λ of λ‖θ − θ_anchor‖₁; 0 is off")

    def _of(self, weights: list[Tensor], centres: list[Tensor]) -> Tensor:
        return l1_penalty(weights, centres, self.strength)


class _Attach(torch.autograd.Function):
    """Gives a value gradients that were worked out beforehand."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        # Let go of them, so that autograd may add the loss's gradients in place.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("a penalty can be differentiated only once: compute it anew")
        if scale.device.type != "cpu" or scale != 1:
            torch._foreach_mul_(gradients, scale)
        return None, None, *gradients


def _attach(value: Tensor, gradients: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    attached: Tensor = _Attach.apply(value, gradients, *weights)  # type: ignore[no-untyped-call]
    return attached


def _norms(tensors: Sequence[Tensor], order: int = 2) -> Tensor:
    return torch.stack(torch._foreach_norm(list(tensors), order))


def _detached(weights: Sequence[Tensor]) -> list[Tensor]:
    return [weight.detach() for weight in weights]


def _check(weights: Sequence[Tensor], strength: float) -> None:
    if not weights:
        raise ValueError("a penalty needs at least one weight, got none")
    if strength < 0:
        raise ValueError(f"strength must be at least 0, got {strength}")
