"""LDIFS: the features of the network before fine-tuning are kept, at several depths.

[0] Mukhoti et al., *Fine-tuning can cripple your foundation model; preserving features may be the
    solution*, section 4.
[1] Zhang et al., *The unreasonable effectiveness of deep features as a perceptual metric* (LPIPS):
    features at unit length before they are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from clbench.errors import ClbenchError
from clbench.methods.base import Context, Forward, Method, Needs
from clbench.methods.forward import LastStep
from clbench.models.backbone import features
from clbench.models.reference import frozen_copy
from clbench.models.taps import Taps, spread_blocks

#: What the length of a feature is at least.
LEAST = 1e-10


def feature_distance(
    current: Sequence[Tensor], original: Sequence[Tensor], axes: Sequence[int]
) -> Tensor:
    """The mean square of what parts features of unit length, of each sample [0, 1].

    Args:
        current: of the network that is trained: (B, …) each.
        original: of the one before, of the same shapes.
        axes: along which each has unit length.

    Returns:
        (B,): means over a layer's entries, and over layers.

    >>> feature_distance([torch.tensor([[3.0, 4.0]])], [torch.tensor([[1.0, 0.0]])], [1])
    tensor([0.4000])
    """
    parts = []
    for one, other, axis in zip(current, original, axes, strict=True):
        ours, theirs = (x / (x.norm(dim=axis, keepdim=True) + LEAST) for x in (one, other))
        parts.append((ours - theirs).square().flatten(1).mean(1))
    return torch.stack(parts).mean(0)


class LDIFS(Method):
    """Adds λ·mean ‖Φ_θ(x) − Φ_anchor(x)‖² on the task's own images [0].

    Φ are the outputs of ``points`` blocks at equal distances and what the head is given, each at
    unit length along its channels. The square is a mean over entries and layers, as in the
    authors' program, so that λ does not depend on the network's size; there, tokens of a ViT have
    unit length along the tokens (``along: axis_1``). The anchor computes in evaluation mode::

        methods: {ldifs: {strength: 10, anchor: pretrained}}
    """

    summary: ClassVar[str] = "keep the features of the pretrained network at several depths"
    neutral: ClassVar[Mapping[str, float]] = {"strength": 0.0}
    needs: ClassVar[Needs] = Needs(copies=2, passes=1)
    every_batch: ClassVar[bool] = True
    anchored: ClassVar[bool] = True

    strength: float = Field(10.0, ge=0, description="λ of the features' distance; 0 is off")
    points: int = Field(5, ge=1, description="blocks that are looked at, beside the last features")
    anchor: Literal["pretrained", "previous"] = Field(
        "pretrained", description="whose features are kept: θ_*'s, or the previous task's"
    )
    along: Literal["channels", "axis_1"] = Field(
        "channels",
        description="unit length: along channels, or the second axis, a ViT's tokens (the authors' "
        "program)",
    )

    _old: nn.Module | None = None
    _taps: tuple[Taps, Taps] | None = None
    _last: LastStep = LastStep()
    _told: dict[str, float] = {}

    def start(self, context: Context) -> None:
        self._last, self._told = LastStep(), {}
        if not self.strength:
            return
        anchors = context.anchors
        anchor = anchors.pretrained if self.anchor == "pretrained" else anchors.previous
        self._old = frozen_copy(context.model, anchor.state, shared=True)
        names = spread_blocks(context.model, context.head, self.points)
        self._taps = Taps(context.model, names, True), Taps(self._old, names, False)

    def penalty(self, forward: Forward) -> Tensor | None:
        if self._taps is None:
            return None
        assert self._old is not None
        ours, theirs = self._taps
        blocks = ours.of(forward.inputs)
        if blocks is None:
            raise ClbenchError(
                f"methods.ldifs: {type(forward.model).__name__} was not called as a module, so "
                "that its blocks could not be seen: leave model.compile out, or ldifs"
            )
        with torch.no_grad():
            last_BF = features(self._old, forward.inputs)
        current = [x.float() for x in (*blocks, forward.features_BF)]
        original = [x.float() for x in (*theirs.last(), last_BF)]
        axes = [self._axis(x, forward.model) for x in current]
        value = forward.mean(feature_distance(current, original, axes))
        self._last.add(forward.step, "features_distance", value)
        return self.strength * value

    def _axis(self, features: Tensor, model: nn.Module) -> int:
        """Along which features have unit length."""
        last = features.ndim == 3 or getattr(model, "output_fmt", "NCHW") == "NHWC"
        return -1 if self.along == "channels" and last else 1

    def finish(self, context: Context) -> None:
        for taps in self._taps or ():
            taps.remove()
        self._old, self._taps, self._told = None, None, self._last.means()

    def activity(self) -> dict[str, float]:
        return {"active": float(bool(self._told)), "features_distance": 0.0} | self._told
