"""Which methods are post hoc: they act on trained weights alone, so that a finished run will do."""

from __future__ import annotations

from clbench.methods.base import Method, overriding
from clbench.methods.together import IN_TRAINING

#: Hooks by which a method changes what is trained, or how.
TRAINS = ("arrange", "adapt", "remembered_labels", *IN_TRAINING)
#: Hooks that act once a task is trained.
AFTER = ("finish", "absorb", "deploy")


def needs_training(name: str, method: Method) -> str:
    """Why a run must be trained with a method; empty if it is post hoc, as it is set.

    A method that says in which tasks anything is trained (``last_trained``) is post hoc: the
    weights that it would have left are those of the last task that it lets be trained.

    Args:
        name: of the method, in the recipe.
        method: with its settings.
    """
    if method.rewinds:
        return f"{name} trains every task from the pretrained weights"
    if method.joint:
        return f"{name} trains on all tasks at once"
    stops = overriding([method], "last_trained")
    acting = [hook for hook in TRAINS if overriding([method], hook)]
    prepares = overriding([method], "start") and not acting
    if prepares and not any(overriding([method], hook) for hook in AFTER):
        acting = ["start"]  # there is nothing else that it prepares for
    if acting and not (stops and acting == ["trainable"]):
        return f"{name} acts while a task is trained ({', '.join(acting)})"
    return ""


def hands_on(method: Method) -> bool:
    """Whether the next task would be trained from what a post-hoc method makes.

    Laid on a finished run, it was not: what it makes is handed on from row to row alone.
    """
    makes = any(overriding([method], hook) for hook in AFTER)
    return makes and method.carries and method.last_trained != 0
