"""Optimisers whose step changes only a share of the entries of every tensor: what they share.

[0] Chen et al., *MoFO: momentum-filtered optimizer for mitigating forgetting in LLM fine-tuning*,
    Algorithm 1.
[1] The authors' code. It differs from [0]: biases and parameters with "norm" in the name are not
    filtered, every entry tied with the threshold is updated, small tensors raise an error.
[2] Hui et al., *HFT: half fine-tuning for large language models*.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from clbench.optim.select import check_fraction, draw_blocks, entry_count, put_back, top_mask
from clbench.seeding import derive

Select = Literal["momentum", "gradient", "random", "half_blocks"]
Decay = Literal["all", "selected"]

#: For ``unfiltered``: the parameters that the authors' code leaves unfiltered [1].
BIAS_AND_NORM = ("*bias", "*norm*")

#: Entries that are stepped together. What a step needs beyond the optimiser's state is a copy of
#: these, not of all weights; and small temporaries are taken from warm memory.
_BATCH = 1 << 21


class MaskedOptimizer(Optimizer, ABC):
    """Takes the plain optimiser's step, and puts back the entries that are not selected."""

    #: Entries updated, and entries that the plain optimiser would have updated.
    updated_entries = 0
    all_entries = 0

    @abstractmethod
    def _full_step(
        self, group: dict[str, Any], parameters: list[Tensor], grads: list[Tensor]
    ) -> None:
        """One step of the plain optimiser on some of a group's parameters.

        It keeps its first moment in ``self.state[p]["exp_avg"]``.
        """

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            _complete(group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state dict of this class or of the plain optimiser.

        What that one does not know (``fraction`` and so on) stays as it is, group by group.

        Raises:
            ValueError: if the groups do not fit.
        """
        saved = state_dict["param_groups"]
        if len(saved) == len(self.param_groups):
            own = [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]
            saved = [kept | group for kept, group in zip(own, saved, strict=True)]
        super().load_state_dict(state_dict | {"param_groups": saved})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with settings of their own where given; see the class.

        Raises:
            ValueError: as for the class.
        """
        super().add_param_group(param_group)
        try:
            _complete(self.param_groups[-1])
            _check(self.param_groups[-1])
        except ValueError:
            del self.param_groups[-1]
            raise

    @property
    def updated_share(self) -> float:
        """Share of the entries that the steps so far have updated; 1 before the first."""
        return self.updated_entries / self.all_entries if self.all_entries else 1.0

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change the weights once; parameters without a gradient are passed over.

        Args:
            closure: computes the loss and its gradients anew; called once, first.

        Returns:
            What ``closure`` gave, or None.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            shares = _shares(index, group)
            for batch in _batches(group["params"], shares):
                self._step_batch(index, group, batch)
            group["draws"] += 1
        return loss

    def _step_batch(
        self, index: int, group: dict[str, Any], batch: list[tuple[int, Tensor, int]]
    ) -> None:
        parameters = [p for _, p, _ in batch]
        filtered = [entry for entry in batch if entry[2] < entry[1].numel()]
        # The full step is taken, and what was not selected is then put back.
        before = [p.clone() for _, p, _ in filtered]
        if before and group["weight_decay"] and group["decay"] == "all":
            torch._foreach_mul_(before, 1 - float(group["lr"]) * group["weight_decay"])
        self._full_step(group, parameters, [_gradient(p) for p in parameters])
        for (position, p, k), old in zip(filtered, before, strict=True):
            if k == 0:
                p.copy_(old)
                continue
            put_back(p, old, top_mask(self._scores(p, group, (index, position)), k))
        self.updated_entries += sum(k for _, _, k in batch)
        self.all_entries += sum(p.numel() for p in parameters)

    def _scores(self, p: Tensor, group: dict[str, Any], place: tuple[int, int]) -> Tensor:
        if group["select"] == "momentum":
            # Before bias correction, which does not change the order within a tensor.
            momentum: Tensor = self.state[p]["exp_avg"]
            return momentum
        if group["select"] == "gradient":
            assert p.grad is not None
            return p.grad
        random = torch.Generator(p.device)
        random.manual_seed(derive(group["seed"], group["draws"], *place))
        return torch.rand(p.shape, generator=random, device=p.device)

    def _moment(self, p: Tensor, name: str) -> Tensor:
        """A moment of a parameter, zero at first."""
        state: dict[str, Any] = self.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p, memory_format=torch.preserve_format)
        state[name] = _laid_out_like(p, state[name])
        moment: Tensor = state[name]
        return moment


def _shares(index: int, group: dict[str, Any]) -> list[int]:
    """For each parameter of a group, how many of its entries this step updates."""
    parameters, fraction = group["params"], group["fraction"]
    check_fraction(fraction)
    names = group.get("param_names") or [""] * len(parameters)
    full = [any(fnmatchcase(n, pattern) for pattern in group["unfiltered"]) for n in names]
    if fraction == 1:
        return [p.numel() for p in parameters]
    if group["select"] != "half_blocks":
        return [
            p.numel() if whole else min(p.numel(), entry_count(p.numel(), fraction))
            for p, whole in zip(parameters, full, strict=True)
        ]
    # Parameters without names are one layer.
    blocks = group.get("param_names") or [str(position) for position in range(len(parameters))]
    drawn = draw_blocks(
        [n for n, whole in zip(blocks, full, strict=True) if not whole],
        fraction,
        *(group["seed"], group["draws"], index),
        layers=None if "param_names" in group else [""] * (len(parameters) - sum(full)),
    )
    return [
        p.numel() if whole or n in drawn else 0
        for p, n, whole in zip(parameters, blocks, full, strict=True)
    ]


def _batches(
    parameters: Sequence[Tensor], shares: Sequence[int]
) -> Iterator[list[tuple[int, Tensor, int]]]:
    """Parameters that have gradients, with position and share, some at a time."""
    batch: list[tuple[int, Tensor, int]] = []
    entries = 0
    for position, (p, k) in enumerate(zip(parameters, shares, strict=True)):
        if p.grad is None:
            continue
        if batch and entries + p.numel() > _BATCH:
            yield batch
            batch, entries = [], 0
        batch.append((position, p, k))
        entries += p.numel()
    if batch:
        yield batch


def _gradient(p: Tensor) -> Tensor:
    assert p.grad is not None
    if p.grad.is_sparse:
        raise RuntimeError(
            "masked optimisers do not take sparse gradients: make the embedding with sparse=False"
        )
    return _laid_out_like(p, p.grad)


def _laid_out_like(p: Tensor, values: Tensor) -> Tensor:
    # torch's fused kernels pair up entries by their place in memory and do not check that it is
    # the same one: a channels_last weight with a contiguous gradient silently goes wrong.
    if values.stride() == p.stride():
        return values
    return torch.empty_like(p, dtype=values.dtype).copy_(values)


def _complete(group: dict[str, Any]) -> None:
    """Fill in what is left to decide for a group."""
    if group["fraction"] is None:
        group["fraction"] = 0.5 if group["select"] == "half_blocks" else 0.15
    if not isinstance(group["unfiltered"], str):
        group["unfiltered"] = tuple(group["unfiltered"])
    if group["fused"] is None:
        group["fused"] = group["foreach"] is None and all(map(_can_fuse, group["params"]))
    if group["foreach"] is None:
        group["foreach"] = not group["fused"]


def _can_fuse(p: Tensor) -> bool:
    return (
        p.device.type in ("cpu", "cuda")
        and p.is_floating_point()
        and torch.empty_like(p, device="meta").stride() == p.stride()
    )


def _check(group: dict[str, Any]) -> None:
    """Refuse settings that make no sense.

    Raises:
        ValueError: naming the value, the reason and the way out.
    """
    check_fraction(group["fraction"])
    for name, known in (("select", get_args(Select)), ("decay", get_args(Decay))):
        if group[name] not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {group[name]!r}")
    for name in {"lr", "eps", "weight_decay"} & group.keys():
        value = float(group[name])
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be at least 0, got {group[name]}")
    for beta in group["betas"]:
        if not 0 <= beta < 1:
            raise ValueError(f"betas must be in [0, 1), got {group['betas']}")
    if group["seed"] < 0:
        raise ValueError(f"seed must be at least 0, got {group['seed']}")
    if isinstance(group["unfiltered"], str):
        raise ValueError(
            f"unfiltered must be a list of patterns: write [{group['unfiltered']!r}], not "
            f"{group['unfiltered']!r}"
        )
    if group["unfiltered"] and "param_names" not in group:
        raise ValueError(
            "unfiltered goes by names: pass model.named_parameters() (torch 2.6 and later), or "
            "put these parameters into a group with fraction=1.0"
        )
    if group["foreach"] and group["fused"]:
        raise ValueError("foreach and fused cannot both be True: choose one")
    if group["fused"] and not all(map(_can_fuse, group["params"])):
        raise ValueError(
            "fused needs floating-point parameters on the CPU or a CUDA device, without gaps in "
            "memory: leave it out"
        )
    if any(p.is_complex() for p in group["params"]):
        raise ValueError("complex parameters are not supported: train their torch.view_as_real")
