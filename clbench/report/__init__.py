"""What a run leaves behind, made from its record alone."""

from clbench.report.files import export, write
from clbench.report.screen import show

__all__ = ["export", "show", "write"]
