"""A finished run, deployed again with other settings."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.sweep.sweeping import Sweep as Sweep
    from clbench.sweep.sweeping import sweep as sweep


def __getattr__(name: str) -> Any:
    # Import paths that users know; late, so that a package costs no more than what is used of it.
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(import_module("clbench.sweep.sweeping"), name)
