"""Checkpoints: what a finished task leaves in ``checkpoints/``, to go on from and to sweep over.

``task_003.pt`` holds the weights after task 3, ``methods_003.pt`` what the methods remember. The
second is written first, so that ``task_003.pt`` alone says that the task is finished; only the
newest one is kept. ``task_003.sha256`` has the checksums of both, as ``sha256sum`` writes them;
a file is compared with its own before anything in it is used. The recipe's ``checkpoints`` says how
long the weights stay.

Where the weights of every task are kept, a tensor that an earlier file holds is not stored again
(:mod:`clbench.record.packing`).
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from clbench.errors import ClbenchError, first_line
from clbench.files.disk import atomic, sync, write_atomic
from clbench.record import saved
from clbench.record.packing import REFERENCE, Packing, Sink

Keep = Literal["all", "last", "none"]
_NAME = re.compile(r"(task|methods)_(\d{3,9})\.(pt|sha256)")


def save(
    folder: Path,
    number: int,
    state: dict[str, Any],
    methods: dict[str, Any],
    keep: Keep,
    known: set[str] | None = None,
) -> None:
    """Write the state after a task, then drop what is no longer needed.

    Args:
        folder: the run folder.
        number: of the task, from 1.
        state: tensors and primitives in dicts and lists; ``done``, ``theta``, ``shown`` ….
        methods: the same, by method; only needed to go on.
        keep: the recipe's ``checkpoints``.
        known: :func:`stored` of the tasks before, to which those of this one are added; None: it
            is read from their files.
    """
    place = folder / "checkpoints"
    if not place.is_dir():
        place.mkdir()
        sync(folder)
    if keep != "all":
        known = set()  # each file is whole
    elif known is None:
        known = stored(folder, number - 1)
    pack = Packing(known, by_content=keep == "all")
    task = pack.file(state)
    # What only the methods' file holds goes with it.
    contents = {"methods": pack.file(methods), "task": task}
    sums: list[str] = []
    for kind in ("methods", "task"):
        path = _file(folder, kind, number)
        with atomic(path) as file:
            sink = Sink(file)
            try:
                torch.save(contents[kind], sink)  # type: ignore[arg-type]
            except Exception:
                if sink.error is not None:  # which torch has taken for one of its own
                    raise sink.error from None
                raise
            sums.append(f"{sink.sha256.hexdigest()}  {path.name}\n")
            if kind == "task":  # there before the file that makes the task count
                write_atomic(_sums(folder, number), "".join(sums))
    known.update(task["tensors"])
    tidy(folder, number, keep)


def tidy(folder: Path, number: int, keep: Keep) -> None:
    """Drop the files of tasks before ``number`` that are no longer needed."""
    for path in (folder / "checkpoints").glob("*_*"):
        found = _NAME.fullmatch(path.name)
        if found and int(found[2]) < number and (keep != "all" or found[1] == "methods"):
            path.unlink()


def stored(folder: Path, number: int) -> set[str]:
    """Keys of the tensors that the files of the tasks up to ``number`` hold."""
    tasks = [n for n in numbers(folder) if n <= number]
    return {key for n in tasks for key in _read(_file(folder, "task", n), set())["tensors"]}


def numbers(folder: Path) -> list[int]:
    """The tasks, from 1, whose weights are there, in order."""
    found = (_NAME.fullmatch(path.name) for path in (folder / "checkpoints").glob("task_*.pt"))
    return sorted(int(name[2]) for name in found if name)


def summed(folder: Path, number: int) -> bool:
    """Whether the files of a task have checksums; those of older versions have none."""
    return _sums(folder, number).exists()


def load(
    folder: Path, number: int, parts: Sequence[str] = (), compared: set[Path] | None = None
) -> dict[str, Any]:
    """The state after a task, on the CPU.

    Args:
        folder: the run folder.
        number: of the task, from 1.
        parts: keys of the state to load; default: all.
        compared: files that were compared with their checksums before and need not be again; those
            that are read are added.

    Raises:
        ClbenchError: if a file is corrupt or missing.
    """
    compared = set() if compared is None else compared
    tree = _read(_file(folder, "task", number), compared)["tree"]
    state: dict[str, Any] = _Unpacking(folder, number, {}, compared).tree(
        {k: v for k, v in tree.items() if not parts or k in parts}
    )
    saved.check(folder, state)
    return state


def last(folder: Path, compared: set[Path] | None = None) -> dict[str, Any] | None:
    """The state after the last finished task, with the ``methods``' own; None if there is none.

    Args:
        folder: the run folder.
        compared: as for :func:`load`.

    Raises:
        ClbenchError: if a file is corrupt or missing.
    """
    found = numbers(folder)
    if not found:
        return None
    compared = set() if compared is None else compared
    contents = _read(_file(folder, "methods", found[-1]), compared)
    unpack = _Unpacking(folder, found[-1], contents["tensors"], compared)
    methods = unpack.tree(contents["tree"])
    return load(folder, found[-1], (), compared) | {"methods": methods}


def remove(folder: Path) -> None:
    """Drop every checkpoint of a run."""
    if (folder / "checkpoints").exists():
        shutil.rmtree(folder / "checkpoints")


class _Unpacking:
    """Puts the tensors back; each is a copy of its own, safe to change in place."""

    def __init__(
        self, folder: Path, number: int, own: dict[str, Tensor], compared: set[Path]
    ) -> None:
        self.folder, self.tensors, self.compared = folder, dict(own), compared
        self.left = [n for n in numbers(folder) if n <= number]

    def tree(self, node: Any) -> Any:
        if isinstance(node, dict):
            if node.keys() == {REFERENCE}:
                return self._tensor(str(node[REFERENCE])).clone()
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
            path = _file(self.folder, "task", self.left.pop())
            self.tensors |= _read(path, self.compared)["tensors"]
        tensor = self.tensors[key]
        if not isinstance(tensor, Tensor):
            raise ClbenchError(f"{self.folder / 'checkpoints'} holds {key!r:.80} that is no tensor")
        return tensor


def _file(folder: Path, kind: str, number: int) -> Path:
    return folder / "checkpoints" / f"{kind}_{number:03}.pt"


def _sums(folder: Path, number: int) -> Path:
    return folder / "checkpoints" / f"task_{number:03}.sha256"


def _read(path: Path, compared: set[Path]) -> dict[str, Any]:
    try:
        _refuse_odd(path)
        if path not in compared:
            _compare(path)
            compared.add(path)
        # Mapped, so that only the tensors that are wanted are read.
        contents: dict[str, Any] = torch.load(
            path, map_location="cpu", weights_only=True, mmap=True
        )
        if not all(isinstance(contents[part], dict) for part in ("tree", "tensors")):
            raise ValueError("it is no checkpoint")
    except Exception as error:
        raise ClbenchError(
            f"{path} cannot be read ({first_line(error)}): put it back from a copy, or remove the "
            f"folder {path.parent} to resume from the start"
        ) from error
    return contents


def _compare(path: Path) -> None:
    """Raise ValueError if a file is not the one whose checksum stands beside it."""
    sums = path.parent / f"task_{_number(path):03}.sha256"
    if not sums.exists():
        return
    _refuse_odd(sums)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if f"{digest.hexdigest()}  {path.name}" not in sums.read_text("utf-8", "replace").split("\n"):
        raise ValueError(f"its SHA-256 is not the one in {sums.name}: one of them is damaged")


def _refuse_odd(path: Path) -> None:
    """Raise ValueError for what is there but no file: a pipe would be waited for without end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no file")


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])
