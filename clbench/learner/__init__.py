"""One task's training: the only LightningModule, its Trainer, and what is deployed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.learner.learner import Learner as Learner


def __getattr__(name: str) -> Any:
    # Import paths that users know; late, so that a package costs no more than what is used of it.
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(import_module("clbench.learner.learner"), name)
