"""What is in the files of checkpoints, and how it is written.

A file is ``{"tree": …, "tensors": {key: tensor}}``; in the tree a tensor is ``{REFERENCE: key}``.
Where the weights of every task are kept, keys are hashes, and a tensor that an earlier file holds
is not stored again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import IO, Any, cast

from torch import Tensor

from clbench.weights import content

REFERENCE = "__tensor__"


class Sink:
    """A file to write that takes the checksum of what passes, and remembers what the disk said."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256 = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: memoryview) -> int:
        """As of any file."""
        self.sha256.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """As of any file."""
        self.file.flush()


class Packing:
    """Takes the tensors out of trees.

    Args:
        known: keys of tensors that are stored already.
        by_content: whether equal tensors are one, or only the same ones (hashing takes time).
    """

    def __init__(self, known: set[str], by_content: bool) -> None:
        self.known, self.by_content = set(known), by_content
        self.keys: dict[int, str] = {}

    def file(self, state: dict[str, Any]) -> dict[str, Any]:
        """What goes into a file: the state's tree, and the tensors that are not stored yet."""
        tensors: dict[str, Tensor] = {}
        return {"tree": self._tree(state, tensors), "tensors": tensors}

    def _tree(self, node: Any, tensors: dict[str, Tensor]) -> Any:
        if isinstance(node, Tensor):
            key = self.keys.get(id(node)) or (_hash(node) if self.by_content else str(id(node)))
            self.keys[id(node)] = key
            if key not in self.known:
                tensors[key] = node
                self.known.add(key)
            return {REFERENCE: key}
        if isinstance(node, dict):
            return {name: self._tree(inner, tensors) for name, inner in node.items()}
        if isinstance(node, list | tuple):
            return type(node)(self._tree(inner, tensors) for inner in node)
        return node


def unkept(state: object) -> str:
    """What of a state no checkpoint gives back as it was, and what would do; empty: nothing."""
    if strange := _strange(state):
        return f"a {strange}: tensors and primitives alone can be kept, in dicts, lists and tuples"
    return ""


def _strange(value: object) -> str:
    if value is None or isinstance(value, Tensor | bool | int | float | str):
        return ""
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
    elif type(value) in (list, tuple):  # a NamedTuple has a class, which no file may bring back
        inner = cast(Iterable[object], value)
    else:
        return type(value).__name__
    return next(filter(None, map(_strange, inner)), "")


def _hash(tensor: Tensor) -> str:
    """SHA-256 of a tensor and of its layout: sums over another layout may round differently."""
    plain = tensor.detach().cpu()
    digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} {plain.stride()};".encode())
    digest.update(content(plain.contiguous()))
    return digest.hexdigest()
