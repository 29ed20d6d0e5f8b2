"""Names of methods in tables and legends: those of ℓ1 and ℓ2 say which weights they stay near.

FLOW's and MoFO's papers mean the pretrained weights θ_*, SFA's the previous task's θ_o: a row that
says ℓ2 alone is compared with the wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANCHORS = {"pretrained": "θ_*", "previous": "θ_o"}
#: Methods whose anchor is said, and how names mention them.
PENALTIES = {"l1": ("l1", "ℓ1", "L1"), "l2": ("l2", "ℓ2", "L2")}


def title(name: str | None, methods: Mapping[str, Any]) -> str:
    """The name of a run's methods.

    Args:
        name: what the suite or the recipe called them; None if they did not.
        methods: settings by method, as in the record; what does not hold an anchor is left as is.

    >>> title(None, {"flow": {}, "l2": {"anchor": "pretrained"}})
    'flow+l2 to θ_*'
    >>> title("flow_l2", {"flow": {}, "l2": {"anchor": "previous"}}), title("ours", {"l2": {}})
    ('flow_l2 to θ_o', 'ours')
    """
    to = {
        method: f" to {ANCHORS[anchor]}"
        for method, settings in methods.items()
        if method in PENALTIES
        and isinstance(settings, Mapping)
        and (anchor := str(settings.get("anchor"))) in ANCHORS
    }
    if name is None:
        told = [method + to.get(method, "") for method in methods if method != "sequential"]
        return "+".join(told) or "sequential"
    if "θ" in name:
        return name
    mentioned = [to[m] for m in to if any(word in name for word in PENALTIES[m])]
    return name + " and".join(dict.fromkeys(mentioned))
