"""Where the images of tar shards lie, found once and remembered in the cache folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clbench.data import contents
from clbench.data.datasets.shard_labels import ShardLabel
from clbench.data.datasets.tar_shards import InShards, scan
from clbench.data.datasets.walk import QUIET
from clbench.data.members import PLACE, Members, TarMembers
from clbench.data.words import note
from clbench.files import lock
from clbench.files.abandoned import own_side, remove_abandoned
from clbench.files.disk import atomic

#: Of what an index holds, and how it is found.
VERSION = 2


class Sharded(NamedTuple):
    """Images in shards with their labels.

    Attributes:
        images: N of them.
        labels: (N,) int64, places among ``values``.
        values: the labels that occur, as the shards name them.
        names: of the classes by number, where the shards tell.
    """

    images: Members
    labels: np.ndarray
    values: list[ShardLabel]
    names: tuple[str, ...] | None = None


def tar_set(shards: Sequence[Path], image: str | None, label: str | None, folder: Path) -> Sharded:
    """The labelled images of tar shards, in their order.

    Their index is made once. It is taken for right as long as size, times of change and inode of
    every shard are what they were.

    Args:
        shards: the files.
        image, label: see :func:`clbench.data.datasets.tar_shards.scan`.
        folder: where the index is kept, if it can be.

    Raises:
        ClbenchError: see :func:`clbench.data.datasets.tar_shards.scan`.
    """
    about = json.dumps([VERSION, image, label, [os.fsdecode(p.absolute()) for p in shards]])
    digest = hashlib.sha256(about.encode("utf-8", "surrogatepass")).hexdigest()
    path = folder / f"shards-{digest[:16]}.npz"
    facts = contents.facts(shards)
    found = _load(path, facts)
    if found is None:
        found = _made(path, facts, shards, image, label)
    places, labels, told = found
    if told["passed"]:
        parts = [f"{count:,} {kind} ({where})" for kind, count, where in told["passed"]]
        note(f"Passed over in the shards: {'; '.join(parts)}")
    return Sharded(TarMembers(shards, places), labels.astype(np.int64), told["values"])


ShardIndex = tuple[np.ndarray, np.ndarray, dict[str, list]]  # type: ignore[type-arg]


def _made(
    path: Path, facts: np.ndarray, shards: Sequence[Path], image: str | None, label: str | None
) -> ShardIndex:
    found = None
    with suppress(OSError):  # where it cannot be written, every run looks anew
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock.alone(path.parent, wait=math.inf):
            found = _load(path, facts)  # another process made it meanwhile?
            if found is None:
                found = _scanned(facts, shards, image, label)
                remove_abandoned(path)
                _save(path, facts, found)
    return found or _scanned(facts, shards, image, label)


def _scanned(
    facts: np.ndarray, shards: Sequence[Path], image: str | None, label: str | None
) -> ShardIndex:
    facts["read"] = time.time_ns()
    began, told, found = time.monotonic(), False, InShards()
    for number, shard in enumerate(shards):
        if not told and time.monotonic() - began > QUIET:
            told = True
            note(f"Looking where images lie: {number:,} of {len(shards):,} shards so far.")
        scan(shard, number, image, label, found)
    passed = [[kind, count, found.examples[kind]] for kind, count in found.passed.items()]
    return *found.arrays(), {"values": list(found.values), "passed": passed}


def _load(path: Path, facts: np.ndarray) -> ShardIndex | None:
    """An index; None if there is none, it is damaged, or shards were changed since."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            places, labels, told = kept["places"], kept["labels"], json.loads(bytes(kept["told"]))
            known = kept["shards"]
    except Exception:  # numpy and zipfile raise many types for a damaged file
        return None
    right = known.dtype == contents.ROW and places.dtype == PLACE and len(places) == len(labels)
    if not right or known.shape != facts.shape or not contents.unchanged(facts, known).all():
        return None
    return places, labels, told


def _save(path: Path, facts: np.ndarray, found: ShardIndex) -> None:
    places, labels, told = found
    text = np.frombuffer(json.dumps(told).encode(), np.uint8)
    with atomic(path, own_side(path)) as file:
        np.savez(file, shards=facts, places=places, labels=labels.astype(np.int32), told=text)
