"""Names of methods in tables and legends: those of ℓ1 and ℓ2 say which weights they stay near.

FLOW's and MoFO's papers mean the pretrained weights θ_*, SFA's the previous task's θ_o: a row that
says ℓ2 alone is compared with the wrong one.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from clbench.record.baselines import PLAIN
from clbench.text.texts import cut_line

ANCHORS = {"pretrained": "θ_*", "previous": "θ_o"}


def title(name: str | None, methods: Mapping[str, Any], anchored: Container[str] = ()) -> str:
    """The name of a run's methods.

    Args:
        name: what the suite or the recipe called them; None if they did not.
        methods: settings by method, as in the record; what does not hold an anchor is left as is.
        anchored: the methods whose anchor is said.

    >>> title(None, {"flow": {}, "l2": {"anchor": "pretrained"}}, ["l2"])
    'flow+l2 to θ_*'
    >>> title("flow_l2", {"flow": {}, "l2": {"anchor": "previous"}}, ["l2"])
    'flow_l2 to θ_o'
    """
    to = {
        method: f" to {ANCHORS[anchor]}"
        for method, settings in methods.items()
        if method in anchored
        and isinstance(settings, Mapping)
        and (anchor := str(settings.get("anchor"))) in ANCHORS
    }
    if name is None:
        told = [method + to.get(method, "") for method in methods if method != PLAIN]
        return "+".join(told) or PLAIN
    if "θ" in name:
        return name
    mentioned = [to[m] for m in to if any(word in name for word in _spelled(m))]
    return name + " and".join(dict.fromkeys(mentioned))


def _spelled(method: str) -> tuple[str, ...]:
    """How names mention a method: l2 as ℓ2 and L2, too."""
    return method, method.replace("l", "ℓ"), method.upper()


def in_order(tasks: Sequence[str], shared: bool) -> str:
    """The order of a stream's tasks, by which it is told from others of its name.

    Args:
        tasks: their names.
        shared: whether they share their labels.
    """
    order = " → ".join(cut_line(task, 40) for task in tasks[:3])
    return order + " → …" * (len(tasks) > 3) + ", shared labels" * shared
