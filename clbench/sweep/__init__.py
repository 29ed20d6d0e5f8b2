"""A finished run, deployed again with other settings."""

from typing import TYPE_CHECKING

from clbench import late

if TYPE_CHECKING:
    from clbench.sweep.sweeping import Sweep as Sweep
    from clbench.sweep.sweeping import sweep as sweep

__getattr__ = late("clbench.sweep.sweeping")
