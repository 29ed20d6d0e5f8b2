"""Memory Aware Synapses (MAS): weights matter by how much the outputs change with them.

[0] Aljundi et al., *Memory aware synapses: learning what (not) to forget*, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context
from clbench.methods.consolidated import Consolidated
from clbench.models.layer_rules import MAGNITUDE
from clbench.models.persample import CHUNK, PerSample
from clbench.seeding import generator
from clbench.weights import State


def sensitivity(
    model: nn.Module,
    batches: Iterable[Tensor],
    outputs_C: Tensor | None = None,
    chunk: int = CHUNK,
) -> State:
    """The mean over samples of |∂‖z‖²/∂θ|, z the outputs of one sample [0, eqs. 2 and 3].

    Every sample has a gradient of its own, in evaluation mode; labels are not needed. The model is
    left as it is.

    Args:
        model: inputs (B, …) to outputs (B, C).
        batches: inputs, on the model's device.
        outputs_C: bool, the outputs in z; default: all.
        chunk: samples differentiated at a time; less needs less memory.

    Returns:
        For each parameter, by the name it has in the plain network: a tensor of its shape.

    Raises:
        ValueError: if ``batches`` holds no sample, or ``chunk`` is below 1.
    """

    def lengths(logits_BC: Tensor, _: Tensor) -> Tensor:
        z_BC = logits_BC if outputs_C is None else logits_BC[:, outputs_C]
        return z_BC.square().sum(1)

    pairs = ((inputs, inputs.new_zeros(len(inputs))) for inputs in batches)
    return PerSample(model, lengths, MAGNITUDE).mean(pairs, chunk)


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
        inputs = (batch.inputs for batch in batches)
        chunk = min(CHUNK, context.batch_size)  # more than training has room for may not fit
        return sensitivity(context.model, inputs, context.seen_C, chunk)
