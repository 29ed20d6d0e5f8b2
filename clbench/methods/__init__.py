"""Methods, by name. A new one is a file here and a row in the table."""

from __future__ import annotations

from collections.abc import Mapping

from clbench.errors import ClbenchError
from clbench.method import Method
from clbench.methods.linear_probe import LinearProbe
from clbench.methods.multitask import Multitask
from clbench.methods.sequential import Sequential
from clbench.methods.sfa import SFA

METHODS: dict[str, type[Method]] = {
    "sequential": Sequential,
    "linear_probe": LinearProbe,
    "multitask": Multitask,
    "sfa": SFA,
}


def refuse_clashes(methods: Mapping[str, Method], optimizer: str, independent: bool) -> None:
    """Refuse methods that cannot go together.

    Args:
        methods: by name, in the recipe's order.
        optimizer: the recipe's optimiser.
        independent: whether every task starts from the pretrained weights.

    Raises:
        ClbenchError: naming the methods and the reason.
    """
    if "sequential" in methods and len(methods) > 1:
        raise ClbenchError(
            "methods: sequential is plain fine-tuning, alone; leave it out beside "
            + ", ".join(name for name in methods if name != "sequential")
        )
    rewinding = [name for name, method in methods.items() if method.rewinds]
    if len(rewinding) > 1:
        raise ClbenchError(
            f"methods: {' and '.join(rewinding)} both rewind every task to the pretrained "
            "weights and merge afterwards; choose one"
        )
