"""Gradients of single samples by ``vmap``, and what counts images of passes with a way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

from torch import Tensor
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from clbench.weights import State

_images: ContextVar[int | None] = ContextVar("_images", default=None)


@contextmanager
def differentiated(images: int = 1) -> Iterator[None]:
    """Passes within that record gradients are differentiated, also those of a frozen copy.

    Nothing in a frozen copy tells so, and within ``vmap`` a batch looks like one image.

    Args:
        images: how many each image stands for: the batch of ``vmap``; 0 where what is called is no
            pass through the network.
    """
    token = _images.set(images)
    try:
        yield
    finally:
        _images.reset(token)


def images_each() -> int | None:
    """How many images each one stands for that passes now; None outside of ``differentiated``."""
    return _images.get()


def sample_gradients(of: Callable[..., Tensor], parameters: State, *samples: Tensor) -> State:
    """Each sample's own gradients by ``vmap`` over ``grad``.

    Args:
        of: the parameters and a sample's tensors, without the batch, to a number ().
        parameters: by name; what is differentiated by.
        samples: (B, …) each.

    Returns:
        Gradients (B, *shape), by name.
    """
    axes = (None, *[0] * len(samples))
    # vmap has no rule for the fused attention kernels, and would go sample by sample.
    with sdpa_kernel(SDPBackend.MATH), differentiated(len(samples[0])):
        return cast(State, vmap(grad(of), axes, randomness="different")(parameters, *samples))
