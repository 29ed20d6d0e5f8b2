"""Whether what a checkpoint holds is of the kind that runs write; a folder may be anybody's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from clbench.errors import ClbenchError
from clbench.weights import State


def check(folder: Path, state: Any) -> None:
    """See that the parts of a state are what they must be, whichever of them there are.

    Raises:
        ClbenchError: naming the first that is not.
    """
    if not isinstance(state, dict):
        refuse(folder, "it holds no state")
    for name, value in state.items():
        if name in _KINDS and not _KINDS[name](value):
            refuse(folder, f"its {name} is not what a run writes there")


def check_fit(
    folder: Path, state: Mapping[str, Any], like: State, tasks: int, classes: int
) -> None:
    """See that a state is one of a network and of a stream.

    Args:
        folder: the run folder.
        state: parts of a checkpoint.
        like: the network's weights.
        tasks: checkpoints of a finished run.
        classes: of the stream.

    Raises:
        ClbenchError: naming what does not fit.
    """
    if state.get("done", 1) > tasks:
        refuse(folder, f"it counts {state['done']} tasks, and the stream has {tasks}")
    start = state.get("start", {})
    for rows in (state.get("learned"), start.get("pretrained"), start.get("previous")):
        if rows is not None and len(rows) != classes:
            refuse(folder, f"it knows {len(rows)} classes, and the stream has {classes}")
    for part in sorted(_WEIGHTS & state.keys()):
        for name in sorted(like.keys() ^ state[part].keys()):
            refuse(folder, f"its {part} lacks or adds {name[:80]}")
    weights = {part: state[part] for part in sorted(_WEIGHTS & state.keys())}
    for part, tensors in (weights | {"start": start.get("head", {})}).items():
        for name, tensor in tensors.items():
            wanted = like.get(name)
            if wanted is None or (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
                refuse(folder, f"{name[:80]} in its {part} is of another shape or type")


def remind(folder: Path, name: str, method: Any, states: Mapping[str, Any]) -> None:
    """Give the method ``name`` what it remembered, of what all of them did.

    Raises:
        ClbenchError: if it is not what the method remembers.
    """
    try:
        method.load_state_dict(states[name])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):
        refuse(folder, f"what {name} remembered is not what a run writes there")


def refuse(folder: Path, reason: str) -> NoReturn:
    """Say that a checkpoint is none of the run's."""
    raise ClbenchError(
        f"a file in {folder / 'checkpoints'} is no checkpoint of this run ({reason}): put the "
        "run's own back, or remove the folder to resume from the start"
    )


def _count(value: Any) -> bool:
    return type(value) is int and 0 < value < 10**15


def _weights(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(x, Tensor) and _number(x) for name, x in value.items()
    )


def _number(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bool and value.ndim == 1


def _start(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"head", "pretrained", "previous"}
        and _weights(value["head"])
        and _rows(value["pretrained"])
        and _rows(value["previous"])
    )


_WEIGHTS = {"theta", "shown", "trained"}
_KINDS: dict[str, Callable[[Any], bool]] = {
    "done": _count,
    "step": lambda value: type(value) is int and 0 <= value < 10**15,
    "stages": _count,
    "record_sha256": lambda value: isinstance(value, str),
    **dict.fromkeys(_WEIGHTS, _weights),
    "learned": _rows,
    "start": _start,
    "methods": lambda value: isinstance(value, dict),
}
