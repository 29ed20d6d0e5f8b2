"""What a run leaves: its record, scores and checkpoints."""

from typing import TYPE_CHECKING

from clbench import late

if TYPE_CHECKING:
    from clbench.record.events import Event as Event
    from clbench.record.record import SCENARIOS as SCENARIOS
    from clbench.record.record import Record as Record
    from clbench.record.record import Scenario as Scenario

__getattr__ = late("clbench.record.record")
