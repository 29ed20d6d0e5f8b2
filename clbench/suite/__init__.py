"""Many runs: suites, tuning, comparisons, papers."""

from typing import TYPE_CHECKING

from clbench import late

if TYPE_CHECKING:
    from clbench.suite.suite import Suite as Suite
    from clbench.suite.suite import expand as expand
    from clbench.suite.suite import load as load

__getattr__ = late("clbench.suite.suite")
