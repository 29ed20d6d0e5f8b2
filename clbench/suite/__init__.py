"""Many runs: suites, tuning, comparisons, papers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.suite.suite import Suite as Suite
    from clbench.suite.suite import expand as expand
    from clbench.suite.suite import load as load


def __getattr__(name: str) -> Any:
    # Import paths that users know; late, so that a package costs no more than what is used of it.
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(import_module("clbench.suite.suite"), name)
