"""Imports of torch and what stands on it, which take seconds, without what makes them slower."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def imports() -> Iterator[None]:
    """Collect no garbage while torch is imported, nor ever look at what that leaves behind.

    Modules make half a million objects that stay. Python's collector would go through all of them
    again and again, in imports and later in training.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
