"""Whether all processes go into a run with the same: images, classes, weights, checkpoint.

Hosts need not share a file system. What they have apart must then be equal: else each would train
on its own, and nobody would see it.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping
from typing import Any

from clbench.errors import ClbenchError


def fingerprints(own: Mapping[str, Any]) -> dict[str, Any]:
    """What a process says of what it has: the SHA-256 of each thing's JSON, and where it is.

    Args:
        own: what it is called, and what it is.
    """
    texts = {what: json.dumps(value, sort_keys=True) for what, value in own.items()}
    found = {what: hashlib.sha256(text.encode()).hexdigest() for what, text in texts.items()}
    return {"has": found, "host": socket.gethostname()}


def check(own: Mapping[str, Any], theirs: Mapping[str, Any], who: str) -> None:
    """Compare what another process told with what this one has.

    Args:
        own: of this process, the first one.
        theirs: from :func:`fingerprints`.
        who: the other one.

    Raises:
        ClbenchError: naming what is not the same, and on which host.
    """
    mine = fingerprints(own)
    for what, digest in mine["has"].items():
        if theirs["has"].get(what) != digest:
            raise ClbenchError(
                f"{who}, on host {theirs['host']}, does not have the {what} that the first one "
                f"has, on host {mine['host']}: give every host the same files, best on a file "
                "system that they share"
            )
