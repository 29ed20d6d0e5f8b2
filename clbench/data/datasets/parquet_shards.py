"""Parquet shards with the images in them, in the layout of Hugging Face's data sets.

A column of images has ``bytes`` and ``path``; only the bytes are used, a path is not followed. Of
one image all of its row group is read, so groups are kept until others are asked for. A file that
says little more than that one value stands in many rows would become gigabytes: it is read bit by
bit, and no further than it may be large.
"""

from __future__ import annotations

import errno
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from clbench.data.datasets.shard_index import Sharded
from clbench.data.datasets.shard_labels import ShardLabel, is_label
from clbench.data.datasets.tar_shards import LARGEST
from clbench.data.members import PLACE, Members
from clbench.data.words import few, spelt
from clbench.errors import ClbenchError, reason, shown

#: Bytes of row groups that are kept, and that one may have.
KEPT, LARGEST_GROUP = 2**28, 2**31
#: Rows of images, and of labels, that are read at a time.
FEW, MANY = 16, 2**16
#: What columns are called where nothing else tells.
IMAGES, LABELS = ("image", "img", "jpg", "png"), ("label", "labels", "cls", "fine_label")


class ParquetImages(Members):
    """Images in a column of Parquet files; the ``offset`` of a place is its row; final."""

    apart: ClassVar[bool] = False

    def __init__(self, shards: Sequence[Path], places: np.ndarray, groups: _Groups) -> None:
        super().__init__(shards, places)
        self._groups = groups

    def pick(self, numbers: np.ndarray) -> ParquetImages:
        """See :meth:`Members.pick`."""
        return ParquetImages(self.shards, self.places[numbers], self._groups)

    def read(self, number: int) -> bytes:
        """See :meth:`Members.read`."""
        place = self.places[number]
        try:
            content = self._groups.image(int(place["shard"]), int(place["offset"]))
        except Exception as error:  # pyarrow has many types, OSErrors without a number among them
            if isinstance(error, OSError) and error.strerror:
                raise
            raise OSError(errno.EIO, reason(error)[:200]) from error
        if not content:
            raise OSError(errno.EIO, "no bytes in the row, and a path is not followed")
        if len(content) > LARGEST:
            raise OSError(errno.EFBIG, f"{len(content):,} bytes, at most {LARGEST:,}")
        return content

    def called(self, number: int) -> str:
        """See :meth:`Members.called`."""
        return f"{self.path(number)}: row {self.places['offset'][number]:,}"


class _Groups:
    """Row groups of one column, the last ones that were asked for."""

    def __init__(self, shards: Sequence[Path], column: str, starts: Sequence[np.ndarray]) -> None:
        self.shards, self.column, self.starts = tuple(shards), column, starts
        self._kept: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._lock = Lock()

    def image(self, shard: int, row: int) -> bytes | None:
        """The bytes of one row."""
        group = int(np.searchsorted(self.starts[shard], row, "right")) - 1
        with self._lock:  # several threads ask for one group at once: it is read for all of them
            rows = self._group(shard, group)
        piece, place = divmod(row - int(self.starts[shard][group]), FEW)
        value = rows[piece][place].as_py()
        return value["bytes"] if isinstance(value, dict) else value

    def _group(self, shard: int, group: int) -> Any:
        key = (shard, group)
        if key not in self._kept:
            file = _parquet().ParquetFile(self.shards[shard])
            size = file.metadata.row_group(group).total_byte_size
            if size > LARGEST_GROUP:
                raise OSError(errno.EFBIG, f"a row group of {size:,} bytes: write smaller ones")
            self._kept[key] = _bounded(file, group, self.column)
            while len(self._kept) > 2 and self._size() > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _size(self) -> int:
        return sum(piece.nbytes for pieces in self._kept.values() for piece in pieces)


def parquet_set(shards: Sequence[Path], image: str | None, label: str | None) -> Sharded:
    """The labelled images of Parquet files, in their order.

    Args:
        shards: the files.
        image, label: their columns; None: the ones that there are.

    Raises:
        ClbenchError: if pyarrow is missing, a file is damaged, columns are missing or odd, or files
            disagree about names.
    """
    values: dict[ShardLabel, int] = {}
    places, labels, starts = [], [], []
    columns: tuple[str, str] | None = None
    names: tuple[str, ...] | None = None
    for number, shard in enumerate(shards):
        try:
            file = _parquet().ParquetFile(shard)
            chosen, told = _columns(file.schema_arrow, *(columns or (image, label)), shard)
            columns = columns or chosen
            names = refuse_other_names(names, told, shard)
            _refuse_many(file.metadata.num_rows, shard)
            given = _labels(shard, file.schema_arrow, chosen[1])
            groups = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        except ClbenchError:
            raise
        except Exception as error:  # pyarrow has many types
            raise ClbenchError(
                f"{spelt(shard)} is damaged, cut or no Parquet file with the columns of the others "
                f"({reason(error)[:200]}): get it again"
            ) from error
        odd = [row for row, value in enumerate(given) if not is_label(value)]
        if odd:
            raise ClbenchError(
                f"{spelt(shard)}: row {odd[0]:,} has the label {shown(given[odd[0]])}, which is "
                "neither a number from 0 nor a name in one line: name another column by "
                "stream.label"
            )
        labels += [values.setdefault(value, len(values)) for value in given]
        place = np.zeros(len(given), dtype=PLACE)
        place["shard"], place["offset"] = number, np.arange(len(given))
        places.append(place)
        starts.append(np.cumsum([0, *groups])[:-1])
    assert columns is not None
    made = ParquetImages(shards, np.concatenate(places), _Groups(shards, columns[0], starts))
    return Sharded(made, np.array(labels, dtype=np.int64), list(values), names)


def refuse_other_names(
    names: tuple[str, ...] | None, others: tuple[str, ...] | None, shard: Path
) -> tuple[str, ...] | None:
    """Refuse shards in which one number stands for two classes.

    Args:
        names: of the classes by number, as shards before have them; None: they do not tell.
        others: as this one has them.
        shard: for the message.

    Returns:
        The longer ones.

    Raises:
        ClbenchError: naming the first number that has two names.
    """
    if names is None or others is None:
        return names if others is None else others
    for number, (one, other) in enumerate(zip(names, others, strict=False)):
        if one != other:
            raise ClbenchError(
                f"{spelt(shard)} calls class {number:,} {shown(other)}, and shards before it call "
                f"it {shown(one)}: write all shards with one list of names, or names as labels"
            )
    return max(names, others, key=len)


def _refuse_many(rows: int, shard: Path) -> None:
    size = shard.stat().st_size
    if rows > size:
        raise ClbenchError(
            f"{spelt(shard)} has {rows:,} rows in {size:,} bytes, too few for images: name other "
            "shards"
        )


def _labels(shard: Path, schema: Any, column: str) -> list[Any]:
    """The labels of all rows; texts that are there often are one object."""
    kind = schema.field(column).type
    if kind.num_fields:  # lists and the like are no labels, and unbounded
        raise ClbenchError(
            f"{spelt(shard)}: column {column} holds {str(kind)[:60]}, which is neither a number "
            "from 0 nor a name in one line: name another column by stream.label"
        )
    texts = [column] if "string" in str(kind) or "binary" in str(kind) else []
    given: list[Any] = []
    file = _parquet().ParquetFile(shard, read_dictionary=texts)
    for batch in file.iter_batches(batch_size=MANY, columns=[column]):
        found = batch.column(0)
        if hasattr(found, "dictionary"):
            known = found.dictionary.to_pylist()
            given += [None if one is None else known[one] for one in found.indices.to_pylist()]
        else:
            given += found.to_pylist()
    return given


def _bounded(file: Any, group: int, column: str) -> list[Any]:
    """A row group of images, in pieces of :data:`FEW` rows.

    Raises:
        OSError: if it becomes larger than :data:`LARGEST_GROUP`.
    """
    pieces, size = [], 0
    for batch in file.iter_batches(batch_size=FEW, row_groups=[group], columns=[column]):
        pieces.append(batch.column(0))
        size += pieces[-1].nbytes
        if size > LARGEST_GROUP:
            raise OSError(errno.EFBIG, f"a row group of more than {LARGEST_GROUP:,} bytes")
    return pieces


def _columns(
    schema: Any, image: str | None, label: str | None, shard: Path
) -> tuple[tuple[str, str], tuple[str, ...] | None]:
    """The columns of images and labels, and names of the classes if the file tells them."""
    features = _features(schema)
    images = [key for key, kind in features.items() if kind.get("_type") == "Image"]
    labels = [key for key, kind in features.items() if kind.get("_type") == "ClassLabel"]
    chosen: list[str] = []
    for field, own, usual in (
        ("image", image, (*images, *IMAGES)),
        ("label", label, (*labels, *LABELS)),
    ):
        column = own or next((one for one in usual if one in schema.names), None)
        if column is None or column not in schema.names:
            raise ClbenchError(
                f"{spelt(shard)} has no column {column or f'that is surely the {field}'}: say "
                f"stream.{field}, one of {few(schema.names)}"
            )
        chosen.append(column)
    kind = schema.field(chosen[0]).type
    if not _holds_bytes(kind):
        raise ClbenchError(
            f"{spelt(shard)}: column {chosen[0]} holds {str(kind)[:60]}, and not the bytes of "
            f"image files: say stream.image, one of {few(schema.names)}"
        )
    names = features.get(chosen[1], {}).get("names")
    told = None
    if isinstance(names, list) and all(is_label(name) for name in names):
        told = tuple(map(str, names))
    return (chosen[0], chosen[1]), told


def _holds_bytes(kind: Any) -> bool:
    """Whether a column is bytes, or has them at ``bytes``."""
    inside = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    kind = inside.get("bytes", kind)
    return "binary" in str(kind) and not kind.num_fields


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What Hugging Face's library wrote of the columns, where it did."""
    try:
        kinds = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {key: kind for key, kind in kinds.items() if isinstance(kind, dict)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ClbenchError(
            f"Parquet shards need pyarrow ({error}): pip install 'clbench[parquet]', or pack the "
            "images in .tar shards"
        ) from error
    return pyarrow.parquet
