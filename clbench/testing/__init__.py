"""Whether a method or a stream of one's own keeps to what all of clbench relies on."""

from clbench.testing.methods import check_method
from clbench.testing.streams import check_stream

__all__ = ["check_method", "check_stream"]
