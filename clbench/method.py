"""What a method is: the import path that methods of one's own use."""

from clbench.methods.base import Context, Method, Needs, overriding

__all__ = ["Context", "Method", "Needs", "overriding"]
