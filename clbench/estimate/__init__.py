"""What a run will need, before it is run."""

from typing import TYPE_CHECKING

from clbench import late

if TYPE_CHECKING:
    from clbench.estimate.estimating import Estimate as Estimate
    from clbench.estimate.estimating import estimate as estimate

__getattr__ = late("clbench.estimate.estimating")
