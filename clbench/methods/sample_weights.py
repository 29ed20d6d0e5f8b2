"""FLOW's weights of samples, and the temperature as it may follow training.

[0] Sanyal et al., *Upweighting easy samples in fine-tuning mitigates forgetting*, Algorithm 1: τ is
    the median of the losses of the whole fine-tuning set; "one could have it be the
    median of the mini-batch, a running / online median, etc." (the talk).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from clbench.methods.plan import Remark
from clbench.processes.processes import gathered
from clbench.record.scopes import is_little

#: A τ below this, in nats, is rounding: the median sample then has its class at 99.9 %. Losses of
#: 1e-3 change by as much from one precision, pose or batch to the next (bfloat16 holds two to three
#: digits, a loss in float32 comes from logits of some tens at 1e-6); the paper's τ are 0.018 to
#: 0.66.
ROUNDING = 1e-3
#: A probe that classifies this share of the images it was trained on fits all it is given.
FITTED = 0.99

Moving = Literal["batch_median", "running_median"]


def median(losses: Tensor) -> float:
    """The median of (N,) losses; of an even number, the mean of the middle two.

    Raises:
        ValueError: if there are none.
    """
    if not losses.numel():
        raise ValueError("the median of no losses is not defined: give a temperature")
    # Cross-entropy can be -0.0, and exp(-f/τ) with τ = -0.0 would be infinite.
    ordered = losses.flatten().abs().sort().values
    return (float(ordered[(len(ordered) - 1) // 2]) + float(ordered[len(ordered) // 2])) / 2


def sample_weights(
    losses: Tensor, temperature: float | Literal["median"] | None = None, sign: int = 1
) -> Tensor:
    """FLOW's weight exp(−f/τ) of every sample [0, Algorithm 1, step 1]; not normalised.

    Args:
        losses: (N,) losses f ≥ 0 of the samples under the frozen reference model.
        temperature: τ > 0, in units of the loss; ``inf`` gives weights of one. None or "median"
            is the median of ``losses``. Where that is zero, the limit τ → 0 is taken: samples
            without loss weigh 1, the others 0.
        sign: 1, or −1 for exp(+f/τ), the weights of distributionally robust optimisation.

    Returns:
        (N,) weights of the losses' type: in [0, 1], or with ``sign=-1`` at least 1 and unbounded.

    Raises:
        ValueError: if there are no losses, or the temperature or the sign is out of range.

    >>> sample_weights(torch.tensor([0.0, 1.0, 2.0]))
    tensor([1.0000, 0.3679, 0.1353])
    """
    if sign not in (1, -1):
        raise ValueError(f"sign must be 1 (FLOW) or -1 (DRO), got {sign}")
    if temperature is None or temperature == "median":
        temperature = median(losses)
    elif not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return exponential(losses, temperature, sign)


def exponential(losses: Tensor, temperature: float, sign: int) -> Tensor:
    """exp(−f/τ) of (N,) losses f, or its inverse."""
    # At the limit τ → 0, samples without loss would be 0/0.
    return torch.exp(-sign * torch.where(losses == 0, 0.0, losses / temperature))


class MovingMedian:
    """The median of losses under the frozen reference, batch by batch of one task [0].

    ``batch_median`` is that of the global mini-batch. ``running_median`` is that over all samples
    seen so far in the task, each with its latest loss; once each has been seen it is, without
    augmentation, the median of the task. Samples of other tasks do not count.

    Args:
        rule: which of the two.
        samples: positions that a sample can have in the stream's training images.
        start: the median before the first batch.
        device: where the losses are.
    """

    def __init__(self, rule: Moving, samples: int, start: float, device: torch.device) -> None:
        self.rule, self.value = rule, start
        kept = samples if rule == "running_median" else 0
        self._latest = torch.full((kept,), torch.nan, device=device)

    def update(self, index_B: Tensor, losses_B: Tensor) -> float:
        """Take in what this process sees of a global batch, of its task; every process has to.

        Args:
            index_B: int64 (B,), positions of the samples; B may be 0.
            losses_B: their losses under the frozen reference, float32.

        Returns:
            The median; as it was if no process brought a sample.
        """
        losses = gathered(losses_B)
        if self.rule == "running_median":
            self._latest[gathered(index_B)] = losses
            losses = self._latest[~self._latest.isnan()]
        if len(losses):
            self.value = median(losses)
        return self.value


def effective_sample_size(weights_N: Tensor) -> float:
    """(Σw)²/(N·Σw²) of (N,) weights, in 0…1: the share of the samples that count; 1 if alike."""
    total, squares = weights_N.double().sum(), weights_N.double().square().sum()
    return float(total.square() / squares / len(weights_N) if squares > 0 else squares)


def doubts(
    weights_N: Tensor, tau: float, fitted: float, inside: bool, given: bool
) -> Iterator[Remark]:
    """What is wrong with the weights (N,) that a task starts with.

    Args:
        weights_N: the weights.
        tau: the temperature.
        fitted: the share of the images that the probe classifies.
        inside: whether it was trained on them.
        given: whether the temperature is a setting, and not a median.
    """
    more = (
        "take more images, train the probe less (epochs, lr)" + ", say losses: out_of_fold" * inside
    )
    if tau < ROUNDING:
        detail = f"τ = {tau:.2g}, below {ROUNDING:g} nats, so that weights are noise"
        out = "give a higher temperature" if given else more
        yield Remark("its temperature is at rounding level", f"{detail}: {out}")
    if inside and fitted >= FITTED:
        detail = f"{fitted:.1%} of the images, so that its losses tell little of them"
        yield Remark("its probe fits all that it was trained on", f"{detail}: {more}")
    effective = effective_sample_size(weights_N)
    if is_little(effective):
        many = f"of {len(weights_N)} images {effective * len(weights_N):.1f} count"
        yield Remark("its weights leave few samples", f"{many}: give a higher temperature")
