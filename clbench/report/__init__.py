"""What a run leaves behind, made from its record alone."""

from clbench.report.files import export, write
from clbench.report.screen import line, show

__all__ = ["export", "line", "show", "write"]
