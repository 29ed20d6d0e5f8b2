"""One look at the forward pass of a batch, for all methods that want to see it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from clbench.data.batches import Batch
from clbench.errors import ClbenchError
from clbench.processes.processes import mean_over_processes


@dataclass(frozen=True, slots=True)
class Forward:
    """What the network made of a batch, before its backward pass.

    Attributes:
        step: of the task, from 1: the one that this batch is part of.
        batch: what this process sees of it.
        inputs: (B, 3, S, S), the images as they were augmented.
        model: the network, in training mode.
        logits_BC: what it made of them; gradients flow.
        losses_B: of the samples, before any method; gradients flow.
        seen: what the head was given; None where the network does not call it as a module.
    """

    step: int
    batch: Batch
    inputs: Tensor
    model: nn.Module
    logits_BC: Tensor
    losses_B: Tensor
    seen: Tensor | None = None

    @property
    def features_BF(self) -> Tensor:
        """What the head was given; gradients flow.

        Raises:
            ClbenchError: if the network keeps it to itself.
        """
        if self.seen is None:
            raise ClbenchError(
                f"{type(self.model).__name__} does not call its head as a module, so that its "
                "features cannot be seen in training: choose another backbone"
            )
        return self.seen

    def mean(self, values_B: Tensor) -> Tensor:
        """What a value (B,) of every sample adds to the loss: () the mean over a step's samples.

        Of several processes and of batches whose gradients are accumulated, this is the part that
        this one has in it.
        """
        mean, share = values_B.mean(), self.batch.share * self.batch.part
        return mean if share == 1.0 else mean * share


@dataclass
class LastStep:
    """Means over the samples of the last step, for :meth:`Method.activity`: of all its batches, and
    of all processes."""

    _step: int = 0
    _parts: dict[str, Tensor] = field(default_factory=dict)

    def add(self, step: int, name: str, part: Tensor) -> None:
        """Add what a batch has of a mean, (), as :meth:`Forward.mean` gives it."""
        if step != self._step:
            self._step, self._parts = step, {}
        before = self._parts.get(name)
        self._parts[name] = part.detach() if before is None else before + part.detach()

    def means(self) -> dict[str, float]:
        """The means by name; all processes have to ask."""
        return {name: float(mean_over_processes(part)) for name, part in self._parts.items()}
