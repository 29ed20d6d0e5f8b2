"""What a run leaves: its record, scores and checkpoints."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.record.record import SCENARIOS as SCENARIOS
    from clbench.record.record import Event as Event
    from clbench.record.record import Record as Record
    from clbench.record.record import Recorder as Recorder
    from clbench.record.record import Scenario as Scenario


def __getattr__(name: str) -> Any:
    # Import paths that users know; late, so that a package costs no more than what is used of it.
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(import_module("clbench.record.record"), name)
