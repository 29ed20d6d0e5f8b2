"""Gradient Episodic Memory (GEM) and its averaged form (A-GEM).

[0] Lopez-Paz & Ranzato, *Gradient episodic memory for continual learning*, eqs. 8-12.
[1] The authors' code, which adds 1e-3·I to the dual's matrix and asks for v ≥ margin.
[2] Chaudhry et al., *Efficient lifelong learning with A-GEM*, eq. 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.linalg import solve_triangular
from scipy.optimize import nnls
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.methods.base import Context, Method, Needs
from clbench.models.modes import undisturbed
from clbench.seeding import generator

#: Added to the diagonal of the dual's matrix [1].
DAMPING = 1e-3


def project(gradient: Tensor, memory_gradients: Tensor, margin: float = 0.5) -> Tensor:
    """The gradient, turned so that no memory's loss goes up to first order (eqs. 11-12 of [0]).

    With memory gradients G and gradient g, solves min ½·vᵀPv + (G·g)ᵀv over v ≥ margin, where
    P = GGᵀ + 1e-3·I, and returns g + Gᵀv. If no constraint G·g ≥ 0 is violated, it returns g.

    Args:
        gradient: (P,), of the current loss.
        memory_gradients: (T, P), one row for each past task.
        margin: γ of [0], at least 0; more pulls further towards old tasks.

    Returns:
        A gradient (P,); ``gradient`` itself if it may stay.

    Raises:
        ValueError: if the shapes do not fit, or ``margin`` is negative.

    >>> against = torch.tensor([[0.0, 1.0]])
    >>> project(torch.tensor([1.0, -1.0]), against, margin=1.5).round(decimals=2)
    tensor([1.0000, 0.5000])
    """
    if memory_gradients.ndim != 2 or gradient.shape != memory_gradients.shape[1:]:
        raise ValueError(
            "gradient must be (P,) and memory_gradients (T, P), got "
            f"{tuple(gradient.shape)} and {tuple(memory_gradients.shape)}"
        )
    if margin < 0:
        raise ValueError(f"margin must be at least 0, got {margin}")
    products = memory_gradients @ gradient
    if not bool((products < 0).any()):
        return gradient
    gram = memory_gradients @ memory_gradients.T
    v = dual(gram.double().cpu().numpy(), products.double().cpu().numpy(), margin)
    return gradient + torch.from_numpy(v).to(gradient) @ memory_gradients


def dual(gram: np.ndarray, products: np.ndarray, margin: float) -> np.ndarray:
    """The multipliers v (T,) of GEM's quadratic program.

    With v = u + margin and P = LLᵀ the program is to find u ≥ 0 with the least ‖Lᵀu − b‖², where
    L·b = −(q + margin·P·1): non-negative least squares.

    Args:
        gram: GGᵀ (T, T), float64.
        products: q = G·g (T,), float64.
        margin: lower bound of v.
    """
    matrix = gram + DAMPING * np.eye(len(gram))
    factor = np.linalg.cholesky(matrix)
    target = solve_triangular(factor, -(products + margin * matrix.sum(1)), lower=True)
    u: np.ndarray = nnls(factor.T, target)[0]
    return u + margin


def project_average(gradient: Tensor, memory_gradient: Tensor) -> Tensor:
    """The gradient without its part against the memory's gradient, eq. 11 of [2].

    Args:
        gradient: g (P,), of the current loss.
        memory_gradient: r (P,), of a batch from memory.

    Returns:
        g − (g·r / r·r)·r if g·r < 0, else ``gradient`` itself.

    >>> project_average(torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0]))
    tensor([1., 0.])
    """
    product = gradient @ memory_gradient
    if not bool(product < 0):
        return gradient
    return gradient - product / (memory_gradient @ memory_gradient) * memory_gradient


class _Memory(Method):
    """Remembers some images of each past task, and edits the gradient with theirs; abstract.

    Memory images are taken without augmentation, in one pass without autocast. Their passes
    normalise by their own statistics where training does, leave running statistics alone, and
    have no dropout: so all processes of a run come to the same memory gradients.

    Gradients are over all of θ, as in eqs. 8-12 of [0]: with ``train_logits: task`` the rows of the
    head of past tasks are part of it. The current loss does not see them, and the projection moves
    them; so do momentum and weight decay, as they do where samples are replayed.
    """

    scope_means: ClassVar[str] = (
        "steps whose gradient was projected, as it went against the memory's: with few conflicts "
        "there is little to project, which is a finding about the stream, not a setting"
    )

    samples: int = Field(256, ge=0, description="training images remembered of each task; 0 is off")

    _index: list[Tensor] = []
    _labels: list[Tensor] = []
    _context: Context | None = None
    _steps: int = 0
    _projections: int = 0
    _passes: float = 0.0
    _copies: int = 0

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Passes and copies are those of the task that is, or was last, trained on."""
        past = {"past_data": True, "past_tasks": True, "task_boundaries": True}
        return Needs(**past, passes=self._passes, copies=self._copies)

    def _gradients(self) -> int:
        """How many gradients of remembered images a step holds at a time."""
        return len(self._index)

    def _read(self, context: Context) -> int:
        """How many remembered images a step reads."""
        return sum(len(index) for index in self._index)

    def stored_samples(self) -> int:
        return sum(len(index) for index in self._index)

    def remembered_labels(self) -> Tensor:
        return torch.cat([super().remembered_labels(), *self._labels])

    def start(self, context: Context) -> None:
        self._context = context
        self._steps = self._projections = 0
        self._passes = self._read(context) / context.batch_size
        # A flat gradient, what becomes of it, and those that it is compared with.
        self._copies = 2 + self._gradients() if self._index else 0

    def finish(self, context: Context) -> None:
        split = context.task.train
        chosen = torch.randperm(len(split), generator=generator(context.seed))[: self.samples]
        chosen = chosen.sort().values
        if len(chosen):
            self._index = [*self._index, split.index[chosen].cpu()]
            self._labels = [*self._labels, split.labels[chosen].cpu()]
        self._context = None

    def _gradient(self, model: nn.Module, index: Tensor, labels: Tensor, out: Tensor) -> None:
        """Put the gradient of the mean loss on remembered images into ``out`` (P,)."""
        context = self._context
        assert context is not None
        named = with_gradient(model)
        split = Split(context.task.train.images, index, labels)
        count = -(-len(index) // context.batch_size)  # a memory of 256 need not fit in one pass
        parts = torch.arange(len(index)).tensor_split(count)
        places = out.zero_().split([p.numel() for _, p in named])
        for inputs, theirs, _ in context.reader.batches(split, context.device, parts):
            with torch.enable_grad(), undisturbed(model):
                logits = _logits(model, inputs.to(named[0][1].dtype))
                loss = context.losses(logits, theirs).sum() / len(index)
                more = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
            for place, part in zip(places, more, strict=True):
                if part is not None:
                    place += part.reshape(-1)

    def _replace(self, model: nn.Module, gradient: Tensor, projected: Tensor) -> None:
        """Put a flat gradient in place, and count."""
        self._steps += 1
        if projected is gradient:
            return
        self._projections += 1
        grads = [p.grad for _, p in with_gradient(model)]
        parts = projected.split([grad.numel() for grad in grads if grad is not None])
        for grad, part in zip(grads, parts, strict=True):
            assert grad is not None
            grad.copy_(part.view_as(grad))

    def activity(self) -> dict[str, float]:
        return {
            "projections": float(self._projections),
            "steps": float(self._steps),
            "memory": float(sum(len(index) for index in self._index)),
            "active": float(self._projections > 0),
            "scope": self._projections / max(1, self._steps),
        }

    def state_dict(self) -> dict[str, object]:
        return {"index": list(self._index), "labels": list(self._labels)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._index, self._labels = list(state["index"]), list(state["labels"])


class GEM(_Memory):
    """Projects each gradient so that no past task's loss on its memory goes up [0].

    Every step takes one pass over the whole memory of each past task, as in [1]: the passes grow
    with the stream, and as many gradients of the network's size are held. The projection sees the
    gradient as the optimiser would, penalties included.
    """

    clashes: ClassVar[Mapping[str, str]] = {
        "agem": "both project the gradient against a memory of past tasks"
    }
    summary: ClassVar[str] = "project gradients against those of every past task's memory"
    neutral: ClassVar[Mapping[str, float]] = {"samples": 0}

    margin: float = Field(0.5, ge=0, description="γ: how far gradients are pulled to old tasks")

    def project(self, model: nn.Module) -> None:
        if not self._index or not with_gradient(model):
            return
        gradient = flat_gradient(model)
        memories = gradient.new_empty((len(self._index), len(gradient)))
        for index, labels, memory in zip(self._index, self._labels, memories, strict=True):
            self._gradient(model, index, labels, memory)
        finite = bool((memories @ gradient).isfinite().all())
        # fp16 training skips steps with overflows by itself.
        projected = project(gradient, memories, self.margin) if finite else gradient
        self._replace(model, gradient, projected)


class AGEM(_Memory):
    """Projects each gradient against that of one batch drawn from all past tasks' memory [2]."""

    summary: ClassVar[str] = "project gradients against that of one batch of past samples"
    neutral: ClassVar[Mapping[str, float]] = {"samples": 0}

    batch: int | None = Field(
        None, ge=1, description="remembered images drawn for each step; default: the batch size"
    )

    def _read(self, context: Context) -> int:
        return min(super()._read(context), self.batch or context.batch_size)

    def _gradients(self) -> int:
        return 1

    def project(self, model: nn.Module) -> None:
        if not self._index or not with_gradient(model):
            return
        assert self._context is not None
        index, labels = torch.cat(self._index), torch.cat(self._labels)
        random = generator(self._context.seed, self._steps)
        size = self.batch or self._context.batch_size
        drawn = torch.randperm(len(index), generator=random)[:size]
        gradient = flat_gradient(model)
        memory = torch.empty_like(gradient)
        self._gradient(model, index[drawn], labels[drawn], memory)
        finite = bool((memory @ gradient).isfinite())
        projected = project_average(gradient, memory) if finite else gradient
        self._replace(model, gradient, projected)


def with_gradient(model: nn.Module) -> Sequence[tuple[str, nn.Parameter]]:
    """The parameters that have a gradient, with their names."""
    return [
        (name, p) for name, p in model.named_parameters() if p.requires_grad and p.grad is not None
    ]


def flat_gradient(model: nn.Module) -> Tensor:
    """All gradients of a network as one (P,)."""
    return torch.cat([p.grad.flatten() for _, p in with_gradient(model) if p.grad is not None])


def _logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """The network's output; a single image that BatchNorm refuses takes running statistics."""
    try:
        logits: Tensor = model(inputs)
    except ValueError:
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if len(inputs) > 1 or not any(norm.training for norm in norms):
            raise
        for norm in norms:
            norm.eval()
        logits = model(inputs)
    return logits
