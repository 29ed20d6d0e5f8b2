"""BitFit: biases and the head are trained, the rest is frozen.

[0] Ben Zaken et al., *BitFit: simple parameter-efficient fine-tuning for transformer-based masked
    language-models*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from torch import nn

from clbench.methods.kinds import LOW_RANK
from clbench.methods.partial import Partial


def biases(names: Iterable[str]) -> frozenset[str]:
    """Those of some parameters' names that are biases: of layers, norms and attention's parts.

    >>> sorted(biases(["norm.bias", "attn.q_bias", "attn.relative_position_bias_table", "w"]))
    ['attn.q_bias', 'norm.bias']
    """
    return frozenset(n for n in names if n.rpartition(".")[2] == "bias" or n.endswith("_bias"))


class BitFit(Partial):
    """Trains all biases of the trunk, those of normalisation layers included, and the head [0].

    A convolution before a normalisation has none, so that in a CNN these are the norms' own; with
    BatchNorm their running statistics move (``model.batch_norm_training: frozen`` keeps them).
    Biases alone take a higher rate than all weights::

        methods: {bitfit: {}}
        optimizer: {name: adamw, lr: 0.001}
    """

    summary: ClassVar[str] = "train the biases and the head"
    clashes: ClassVar[Mapping[str, str]] = {
        **Partial.clashes,
        **dict.fromkeys((*LOW_RANK, "ln_only"), "each freezes what the other trains"),
    }

    def chosen(self, model: nn.Module, head: Sequence[str]) -> frozenset[str]:
        return biases(name for name, _ in model.named_parameters() if name not in head)

    def lacking(self, model: nn.Module, head: Sequence[str]) -> str:
        if self.chosen(model, head):
            return ""
        return "finds no bias in the network's trunk: choose another backbone, or linear_probe"
