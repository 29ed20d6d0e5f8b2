"""The command line."""

from typing import TYPE_CHECKING

from clbench import late

if TYPE_CHECKING:
    from clbench.cli.cli import main as main

__getattr__ = late("clbench.cli.cli")
