"""What a run will need, before it is run."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.estimate.estimating import Estimate as Estimate
    from clbench.estimate.estimating import estimate as estimate


def __getattr__(name: str) -> Any:
    # Import paths that users know; late, so that a package costs no more than what is used of it.
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(import_module("clbench.estimate.estimating"), name)
