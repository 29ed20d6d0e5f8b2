"""The command line."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.cli.cli import main as main


def __getattr__(name: str) -> Any:
    # Import paths that users know; late, so that a package costs no more than what is used of it.
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(import_module("clbench.cli.cli"), name)
