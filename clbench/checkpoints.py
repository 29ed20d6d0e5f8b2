"""Checkpoints: what a finished task leaves in ``checkpoints/``, to go on from and to sweep over.

``task_003.pt`` holds the weights after task 3, ``methods_003.pt`` what the methods remember. The
second is written first, so that ``task_003.pt`` alone says that the task is finished; only the
newest one is kept. The recipe's ``checkpoints`` says how long the weights stay.

A file is ``{"tree": …, "tensors": {key: tensor}}``; in the tree a tensor is ``{REFERENCE: key}``.
Where the weights of every task are kept, keys are hashes, and a tensor that an earlier file holds
is not stored again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from clbench.errors import ClbenchError
from clbench.record import atomic

Keep = Literal["all", "last", "none"]
REFERENCE = "__tensor__"


def save(
    folder: Path, number: int, state: dict[str, Any], methods: dict[str, Any], keep: Keep
) -> None:
    """Write the state after a task, then drop what is no longer needed.

    Args:
        folder: the run folder.
        number: of the task, from 1.
        state: tensors and primitives in dicts and lists; ``done``, ``theta``, ``shown`` ….
        methods: the same, by method; only needed to go on.
        keep: the recipe's ``checkpoints``.
    """
    place = folder / "checkpoints"
    place.mkdir(exist_ok=True)
    known: set[str] = set()
    if keep == "all":
        for earlier in numbers(folder):
            if earlier < number:
                known |= _read(_file(folder, "task", earlier))["tensors"].keys()
    pack = _Packing(known, by_content=keep == "all")
    contents = {"task": pack.file(state), "methods": pack.file(methods)}
    for kind in ("methods", "task"):
        with atomic(_file(folder, kind, number)) as file:
            torch.save(contents[kind], file)
    for old in place.glob("*.pt"):
        if _number(old) < number and (keep != "all" or old.name.startswith("methods")):
            old.unlink()


def numbers(folder: Path) -> list[int]:
    """The tasks, from 1, whose weights are there, in order."""
    return sorted(_number(path) for path in (folder / "checkpoints").glob("task_*.pt"))


def load(folder: Path, number: int, parts: Sequence[str] = ()) -> dict[str, Any]:
    """The state after a task, on the CPU.

    Args:
        folder: the run folder.
        number: of the task, from 1.
        parts: keys of the state to load; default: all.

    Raises:
        ClbenchError: if a file is corrupt or missing.
    """
    tree = _read(_file(folder, "task", number))["tree"]
    return _Unpacking(folder, number).tree(
        {k: v for k, v in tree.items() if not parts or k in parts}
    )


def last(folder: Path) -> dict[str, Any] | None:
    """The state after the last finished task, with the ``methods``' own; None if there is none.

    Raises:
        ClbenchError: if a file is corrupt or missing.
    """
    found = numbers(folder)
    if not found:
        return None
    contents = _read(_file(folder, "methods", found[-1]))
    unpack = _Unpacking(folder, found[-1], contents["tensors"])
    return load(folder, found[-1]) | {"methods": unpack.tree(contents["tree"])}


def remove(folder: Path) -> None:
    """Drop every checkpoint of a run."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


class _Packing:
    """Takes the tensors out of trees.

    Args:
        known: keys of tensors that are stored already; grows.
        by_content: whether equal tensors are one, or only the same ones (hashing takes time).
    """

    def __init__(self, known: set[str], by_content: bool) -> None:
        self.known, self.by_content = known, by_content
        self.keys: dict[int, str] = {}

    def file(self, state: dict[str, Any]) -> dict[str, Any]:
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


class _Unpacking:
    """Puts the tensors back; each is a copy of its own, safe to change in place."""

    def __init__(self, folder: Path, number: int, own: dict[str, Tensor] | None = None) -> None:
        self.folder, self.tensors = folder, own or {}
        self.left = [n for n in numbers(folder) if n <= number]

    def tree(self, node: Any) -> Any:
        if isinstance(node, dict):
            if node.keys() == {REFERENCE}:
                return self._tensor(node[REFERENCE]).clone()
            return {name: self.tree(inner) for name, inner in node.items()}
        if isinstance(node, list | tuple):
            return type(node)(self.tree(inner) for inner in node)
        return node

    def _tensor(self, key: str) -> Tensor:
        while key not in self.tensors:
            if not self.left:
                raise ClbenchError(
                    f"{self.folder / 'checkpoints'} is not whole: files are missing that later "
                    "ones rely on; run again"
                )
            self.tensors |= _read(_file(self.folder, "task", self.left.pop()))["tensors"]
        return self.tensors[key]


def _file(folder: Path, kind: str, number: int) -> Path:
    return folder / "checkpoints" / f"{kind}_{number:03}.pt"


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _read(path: Path) -> dict[str, Any]:
    try:
        # Mapped, so that only the tensors that are wanted are read.
        contents: dict[str, Any] = torch.load(
            path, map_location="cpu", weights_only=True, mmap=True
        )
        contents["tree"], contents["tensors"]
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ClbenchError(
            f"{path} cannot be read ({reason}): remove the folder {path.parent} to resume from "
            "the start"
        ) from error
    return contents


def _hash(tensor: Tensor) -> str:
    """SHA-256 of a tensor and of its layout: sums over another layout may round differently."""
    plain = tensor.detach().cpu()
    digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} {plain.stride()};".encode())
    digest.update(plain.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
