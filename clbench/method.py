"""What a method is: the import path that methods of one's own use."""

from clbench.methods.base import Context, Method, Needs, overriding
from clbench.methods.kinds import LOW_RANK, PROMPTS

__all__ = ["LOW_RANK", "PROMPTS", "Context", "Method", "Needs", "overriding"]
