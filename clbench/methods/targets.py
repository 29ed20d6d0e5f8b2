"""Layers by patterns of their names, for methods that are about some of them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from clbench.errors import ClbenchError
from clbench.models.backbone import head_names


def layers(model: nn.Module, targets: Sequence[str], whose: str) -> list[str]:
    """Names of the linear and convolutional layers, but the head, that match a pattern.

    Args:
        model: a timm model.
        targets: patterns with ``*`` and ``?``, over the whole name of a layer.
        whose: the method's name, for messages.

    Raises:
        ClbenchError: if a pattern matches none.
    """
    head = head_names(model)[0].rpartition(".")[0]
    known = [
        name
        for name, module in model.named_modules()
        if name != head and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ]
    for pattern in targets:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ClbenchError(
                f"{whose}.targets: {pattern!r} matches no linear or convolutional layer; "
                f"there are {', '.join(known[:8])}{', …' if len(known) > 8 else ''}"
            )
    return [name for name in known if any(fnmatchcase(name, pattern) for pattern in targets)]
