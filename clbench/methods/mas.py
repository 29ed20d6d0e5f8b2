"""Memory Aware Synapses (MAS): weights matter by how much the outputs change with them.

[0] Aljundi et al., *Memory aware synapses: learning what (not) to forget*, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from clbench.methods.base import Context
from clbench.methods.consolidated import Consolidated
from clbench.models.differentiated import sample_gradients
from clbench.models.reference import plain_network
from clbench.seeding import generator
from clbench.weights import State

#: Samples that are differentiated at a time, at most, and numbers in their gradients, about.
CHUNK, ROOM = 64, 2**26


def sensitivity(
    model: nn.Module, batches: Iterable[Tensor], outputs_C: Tensor | None = None
) -> State:
    """The mean over samples of |∂‖z‖²/∂θ|, z the outputs of one sample [0, eqs. 2 and 3].

    Every sample has a gradient of its own, in evaluation mode; labels are not needed. The model is
    left as it is.

    Args:
        model: inputs (B, …) to outputs (B, C).
        batches: inputs, on the model's device.
        outputs_C: bool, the outputs in z; default: all.

    Returns:
        For each parameter, by the name it has in the plain network: a tensor of its shape.

    Raises:
        ValueError: if ``batches`` holds no sample.
    """
    plain = plain_network(model).eval().requires_grad_(False)
    parameters: State = dict(plain.named_parameters())

    def length(weights: State, one: Tensor) -> Tensor:
        z_C = functional_call(plain, weights, (one[None],))[0]
        return (z_C if outputs_C is None else z_C[outputs_C]).square().sum()

    chunk = max(1, min(CHUNK, ROOM // sum(p.numel() for p in parameters.values())))
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    count = 0
    for inputs in batches:
        count += len(inputs)
        for part in inputs.split(chunk):
            for name, found in sample_gradients(length, parameters, part).items():
                total[name] += found.abs().sum(0)
    if not count:
        raise ValueError("batches holds no samples, so there is nothing to be sensitive to")
    return {name: x / count for name, x in total.items()}


class MAS(Consolidated):
    """Adds λ·ΣΩ(θ − θ_o)², Ω the sum over past tasks of the mean of |∂‖z‖²/∂θ| [0].

    z are the logits of the classes seen so far, on a task's training images when it ends, without
    augmentation or labels. The first task has no penalty::

        methods: {mas: {strength: 1.0, samples: 1000}}
    """

    summary: ClassVar[str] = "quadratic penalty weighted by how the outputs change with each weight"

    samples: int | None = Field(
        None, ge=1, description="training images that Ω is computed on; default: all"
    )

    def _matters(self, context: Context) -> State:
        split = context.drawn(self.samples, generator(context.seed, 8))
        batches = context.reader.batches(split, context.device)
        return sensitivity(context.model, (batch.inputs for batch in batches), context.seen_C)
