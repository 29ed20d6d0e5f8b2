"""Data sets in shards: tar archives in WebDataset's layout, or Parquet files with their images."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clbench.data.datasets.base import DataSet, Labelled, every_fifth
from clbench.data.datasets.parquet_shards import parquet_set, refuse_other_names
from clbench.data.datasets.shard_index import Sharded, tar_set
from clbench.data.datasets.shard_labels import ShardLabel
from clbench.data.words import expanded, few, note, spelt
from clbench.errors import ClbenchError
from clbench.text.textfile import read_file

ENDINGS = (".tar", ".parquet")
_BRACES = re.compile(r"(.*)\{(\d{1,9})\.\.(\d{1,9})\}(.*)")
#: Shards that braces may stand for.
MOST = 100_000


def shard_set(
    train: Sequence[Path],
    test: Sequence[Path] | None,
    image: str | None,
    label: str | None,
    names: Path | None,
    root: Path,
) -> DataSet:
    """A data set in shards. No image is opened yet, and none is ever unpacked.

    Args:
        train, test: shards, folders of them, or patterns such as ``train-{0000..0146}.tar``;
            without a test part every fifth image of each class is held out.
        image: ending of a sample's image in tar shards, or the column in Parquet; None: the one
            that there is.
        label: ``cls``, or the key in ``.json``; or the column. None: ``cls``, then ``label``.
        names: a text file of the names of classes, one a line from 0; None: what the shards tell.
        root: the data root, which has the cache folder.

    Raises:
        ClbenchError: if shards are missing, damaged, of two kinds or given twice, or if labels and
            classes do not fit.
    """
    parts = [shard_files(train, "stream.train")]
    if test is not None:
        parts.append(shard_files(test, "stream.test"))
    _refuse_repeated(parts)
    found = [_read(shards, image, label, root / "cache") for shards in parts]
    if test is not None:
        refuse_other_names(found[0].names, found[1].names, parts[1][0])
    classes, wanted = _classes(found[0], names)
    numbered = [_numbered(part, wanted) for part in found]
    if test is None:
        note("No stream.test: every fifth image of each class is held out for testing")
        _refuse_few(numbered[0].labels, classes)
        numbered = _held_out(found[0], numbered[0].labels)
    return DataSet("shards", numbered[0], numbered[1], classes)


def shard_files(given: Sequence[Path], field: str) -> list[Path]:
    """The shards that paths, folders and patterns stand for.

    Args:
        given: as the user named them.
        field: of the recipe, for the message.

    Raises:
        ClbenchError: if there are none, or one is missing or no file.
    """
    shards: list[Path] = []
    for one in map(expanded, given):
        found = _expanded(one)
        if not found:
            raise ClbenchError(
                f"{field} = {spelt(one)}: there are no shards: give .tar or .parquet files, a "
                "folder of them, or a pattern such as train-*.tar or train-{0000..0146}.tar"
            )
        shards += found
    bad = [path for path in shards if not path.is_file()]
    if bad:
        raise ClbenchError(
            f"{field}: {len(bad):,} of {len(shards):,} shards are not there or no plain files: "
            f"{few(bad, 3)}: get them, or name those that are there"
        )
    return shards


def _expanded(path: Path) -> list[Path]:
    if path.is_dir():
        inside = [one for one in path.iterdir() if one.suffix in ENDINGS and one.name[0] != "."]
        return sorted(inside)
    braces = _BRACES.fullmatch(str(path))
    if braces and not path.exists():
        before, first, last, after = braces.groups()
        width = len(first) if first[0] == "0" else 0
        numbers = range(int(first), int(last) + 1)
        if len(numbers) > MOST:
            raise ClbenchError(
                f"{spelt(path)} stands for {len(numbers):,} shards, and may for {MOST:,}: name "
                "those that are there, or pack more images in each"
            )
        return [Path(f"{before}{number:0{width}}{after}") for number in numbers]
    if glob.has_magic(str(path)) and not path.exists():
        return sorted(map(Path, glob.glob(str(path))))
    return [path]


def _refuse_repeated(parts: Sequence[Sequence[Path]]) -> None:
    seen: set[str] = set()
    for shard in (shard for part in parts for shard in part):
        real = os.path.realpath(shard)
        if real in seen:
            raise ClbenchError(
                f"the shard {spelt(shard)} is given twice: name each shard once, for training or "
                "for testing (stream.test left out holds every fifth image out)"
            )
        seen.add(real)


def _read(shards: list[Path], image: str | None, label: str | None, folder: Path) -> Sharded:
    kinds = {shard.suffix for shard in shards}
    odd = next((shard for shard in shards if shard.suffix not in ENDINGS), None)
    if odd is not None:
        raise ClbenchError(
            f"shards are all .tar or all .parquet, and {spelt(odd)} is neither: name those that "
            "are (of .tar.gz or .tgz: decompress them)"
        )
    if len(kinds) > 1:
        one, other = (next(s for s in shards if s.suffix == kind) for kind in sorted(kinds))
        raise ClbenchError(
            f"shards are all .tar or all .parquet, but there are {spelt(one)} and {spelt(other)}: "
            "name those of one kind"
        )
    if kinds == {".tar"}:
        found = tar_set(shards, image, label, folder)
    else:
        found = parquet_set(shards, image, label)
    if not len(found.images):
        raise ClbenchError(
            f"there are no images with labels in {few(shards, 3)}: tar shards have 0001.jpg with "
            "0001.cls or 0001.json"
        )
    return found


def _classes(found: Sharded, file: Path | None) -> tuple[tuple[str, ...], dict[ShardLabel, int]]:
    """Names of the classes that occur, and the number of each label."""
    kinds = {type(value) for value in found.values}
    if len(kinds) > 1:
        raise ClbenchError(
            f"the labels are numbers and names, such as {few(found.values, 4)}: say by "
            "stream.label which of .cls and the keys of .json is meant"
        )
    names = found.names if file is None else _lines(file)
    present: list[ShardLabel] = sorted(found.values)  # type: ignore[type-var]
    if kinds == {int}:
        lack = [value for value in present if names is not None and value >= len(names)]  # type: ignore[operator]
        called = [names[value] if names and not lack else str(value) for value in present]  # type: ignore[index]
    else:
        known, there = set(names or ()), set(found.values)
        lack = [value for value in present if names is not None and value not in known]
        present = [name for name in names if name in there] if names else present
        called = [str(value) for value in present]
    if lack:
        raise ClbenchError(
            f"the labels {few(lack, 3)} have no name among the {len(names or ()):,} of "
            f"{spelt(file) if file else 'the shards'}: give a file with a line for each class by "
            "stream.names"
        )
    if len(set(called)) < len(called):
        raise ClbenchError(
            f"two classes have one name in {spelt(file) if file else 'the shards'}: give a file "
            "with a line of its own for each class by stream.names"
        )
    return tuple(called), {value: number for number, value in enumerate(present)}


def _lines(file: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in read_file(expanded(file)).rstrip().splitlines())


def _numbered(found: Sharded, wanted: dict[ShardLabel, int]) -> Labelled:
    """Images with the numbers of their classes."""
    strange = [value for value in found.values if value not in wanted]
    if strange:
        raise ClbenchError(
            f"the labels {few(strange, 5)} are in stream.test alone: give shards of the same "
            "classes for training and for testing"
        )
    numbers = np.array([wanted[value] for value in found.values], dtype=np.int64)
    return Labelled(found.images, numbers[found.labels])


def _refuse_few(labels: np.ndarray, classes: Sequence[str]) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    small = [name for name, count in zip(classes, counts, strict=True) if count < 5]
    if small:
        raise ClbenchError(
            f"classes with fewer than 5 images, too few to hold a fifth out for testing: "
            f"{few(small)}; give shards for testing by stream.test"
        )


def _held_out(found: Sharded, labels: np.ndarray) -> list[Labelled]:
    out = every_fifth(labels)
    return [Labelled(found.images.pick(np.flatnonzero(rows)), labels[rows]) for rows in (~out, out)]
