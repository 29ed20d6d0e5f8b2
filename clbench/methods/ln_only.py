"""Tuning of normalisation layers: their scales and shifts and the head are trained, no more.

[0] Frankle et al., *Training BatchNorm and only BatchNorm: on the expressive power of random
    features in CNNs*.
[1] Qi et al., *Parameter-efficient tuning on layer normalization for pre-trained language models*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from timm.layers import norm
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from clbench.methods.kinds import LOW_RANK
from clbench.methods.partial import Partial

#: Layers that normalise; timm's other norms are subclasses of these, but for those that are an
#: activation as well (EvoNorm, FilterResponseNorm).
NORMS = (
    *(_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
    *(x for name, x in vars(norm).items() if name.startswith(("RmsNorm", "SimpleNorm"))),
)


def affine(model: nn.Module) -> frozenset[str]:
    """Names of the scales and shifts of a network's normalisation layers.

    >>> sorted(affine(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))))
    ['1.bias', '1.weight']
    """
    return frozenset(
        f"{prefix}.{leaf}".lstrip(".")
        for prefix, module in model.named_modules()
        if isinstance(module, NORMS)
        for leaf, _ in module.named_parameters(recurse=False)
    )


class LNOnly(Partial):
    """Trains γ and β of every normalisation layer of the trunk, and the head [0, 1].

    Of whichever kind: LayerNorm, GroupNorm, BatchNorm. BatchNorm's running statistics move as in
    fine-tuning; ``model.batch_norm_training: frozen`` keeps them, so that γ and β alone change::

        methods: {ln_only: {}}
        optimizer: {name: adamw, lr: 0.001}
    """

    summary: ClassVar[str] = "train the normalisation layers' scales and shifts, and the head"
    clashes: ClassVar[Mapping[str, str]] = {
        **Partial.clashes,
        **dict.fromkeys(LOW_RANK, "each freezes what the other trains"),
    }

    def chosen(self, model: nn.Module, head: Sequence[str]) -> frozenset[str]:
        return affine(model) - frozenset(head)

    def lacking(self, model: nn.Module, head: Sequence[str]) -> str:
        if self.chosen(model, head):
            return ""
        return (
            "finds no normalisation layer with weights in the network's trunk: choose another "
            "backbone, or bitfit"
        )
