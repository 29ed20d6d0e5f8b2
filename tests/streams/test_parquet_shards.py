"""Streams from Parquet files with the images in them, as Hugging Face's library writes them."""

import json
import sys

import pytest
import torch
from shards import noise, picture

from clbench.data.datasets import parquet_shards
from clbench.data.datasets.parquet_shards import parquet_set
from clbench.data.decode import BadImages, decode
from clbench.errors import ClbenchError
from clbench.streams import STREAMS, Storage


def write(path, numbers, rows=7, names=("cat", "dog"), images=None, labels=None):
    """One file in row groups of a few rows, with what the library writes of its columns."""
    pa = pytest.importorskip("pyarrow", reason="clbench[parquet] is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    features = {"img": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": list(names)}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = images or [{"bytes": noise(number), "path": "/etc/passwd"} for number in numbers]
    columns = {
        "id": pa.array(list(numbers)),
        "img": pa.array(images, image),
        "kind": pa.array(labels or [number % len(names) for number in numbers]),
    }
    about = json.dumps({"info": {"features": features if names else {}}})
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns).replace_schema_metadata({"huggingface": about})
    pq.write_table(table, path, row_group_size=rows)
    return path


def build(tmp_path, storage=None, **fields):
    fields = {"name": "shards", "train": tmp_path / "train", "validation": 0.25} | fields
    config = STREAMS["shards"].model_validate(fields)
    return config.build(tmp_path / "data", Storage(**({"size": 8, "stored": 8} | (storage or {}))))


@pytest.mark.parametrize("keep", ["disk", "memory"])
def test_images_and_labels_are_those_of_the_rows(tmp_path, keep):
    write(tmp_path / "train/0.parquet", range(30))
    write(tmp_path / "train/1.parquet", range(30, 40))
    stream = build(tmp_path, {"keep": keep}, tasks=2)
    assert stream.class_names == ("cat", "dog")
    stream.allowed.fill_(True)
    seen = []
    known = {decode(noise(number), 8, "crop").tobytes(): number for number in range(40)}
    for task in stream.tasks:
        for part in (task.train, task.validation, task.test):
            images = part.images.take(part.index).permute(0, 2, 3, 1).contiguous().numpy()
            found = [known[image.tobytes()] for image in images]
            assert all(number % 2 == task.index for number in found)
            seen += found
    assert sorted(seen) == list(range(40))


def test_row_groups_are_read_in_order_and_few_are_kept(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", range(50), rows=5)
    monkeypatch.setattr(parquet_shards, "KEPT", 0)
    images = parquet_set([path], None, None).images
    asked = []
    group = images._groups._group

    def counted(*key):
        asked.append(key)
        return group(*key)

    monkeypatch.setattr(images._groups, "_group", counted)
    assert [one.read_bytes() for one in images] == [noise(number) for number in range(50)]
    assert asked == sorted(asked)
    assert len(images._groups._kept) == 2
    assert images[12:14][1].read_bytes() == noise(13)


def test_single_images_are_not_read_where_that_reads_many(tmp_path):
    write(tmp_path / "train/0.parquet", range(30))
    with pytest.raises(
        ClbenchError, match=r"images\.keep = 'files', but .* set images\.keep: disk"
    ):
        build(tmp_path, {"keep": "files"})


def test_columns_and_labels_of_text(tmp_path):
    path = write(tmp_path / "0.parquet", range(20), names=(), labels=["b", "a"] * 10)
    for fields in ({"image": "img"}, {}):
        with pytest.raises(ClbenchError, match=r"has no column .*, one of id, img, kind"):
            build(tmp_path, train=path, **fields)
    stream = build(tmp_path, train=path, image="img", label="kind")
    assert stream.class_names == ("a", "b")
    with pytest.raises(ClbenchError, match=r"has no column other: say stream\.label"):
        build(tmp_path, train=path, image="img", label="other")


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ({"bytes": None, "path": "/etc/passwd"}, "no bytes in the row, and a path is not followed"),
        ({"bytes": b"", "path": None}, "no bytes in the row"),
        ({"bytes": picture(1)[:40], "path": None}, "cannot be read as an image"),
        (None, "no bytes in the row"),
    ],
)
def test_rows_without_an_image_name_file_and_row(tmp_path, image, told):
    images = [{"bytes": noise(number), "path": None} for number in range(20)]
    images[3] = image
    write(tmp_path / "train/0.parquet", range(20), images=images)
    with pytest.raises(BadImages, match=rf"0\.parquet: row 3 .*{told}|0\.parquet: row 3 {told}"):
        build(tmp_path)


@pytest.mark.parametrize("label", [None, -1, 10**12, "a\nb"])
def test_labels_that_are_none(tmp_path, label):
    labels = [label if number == 4 else number % 2 for number in range(20)]
    if isinstance(label, str):
        labels = [label if number == 4 else "ab"[number % 2] for number in range(20)]
    write(tmp_path / "train/0.parquet", range(20), labels=labels)
    with pytest.raises(ClbenchError, match=r"0\.parquet: row 4 has the label"):
        build(tmp_path)


def test_damaged_files_are_one_line(tmp_path):
    path = write(tmp_path / "train/0.parquet", range(20))
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[: len(whole) // 2], whole[:-40]):
        path.write_bytes(content)
        with pytest.raises(ClbenchError, match=r"0\.parquet is damaged, cut or no Parquet") as told:
            build(tmp_path)
        assert "\n" not in str(told.value)
    flipped = bytearray(whole)
    flipped[200:2000] = bytes(1800)
    path.write_bytes(flipped)
    with pytest.raises(ClbenchError, match=r"0\.parquet"):
        build(tmp_path)


def test_huge_row_groups_are_refused(tmp_path, monkeypatch):
    write(tmp_path / "train/0.parquet", range(20))
    monkeypatch.setattr(parquet_shards, "LARGEST_GROUP", 100)
    with pytest.raises(BadImages, match=r"row 0 \(a row group of .* bytes: write smaller ones\)"):
        build(tmp_path)


def test_what_becomes_large_is_read_bit_by_bit(tmp_path, monkeypatch):
    """One image in all rows, once in the file."""
    images = [{"bytes": noise(1, side=64), "path": None}] * 200
    path = write(tmp_path / "train/0.parquet", range(200), rows=200, images=images)
    assert path.stat().st_size < 40_000
    monkeypatch.setattr(parquet_shards, "LARGEST_GROUP", 500_000)
    found = parquet_set([path], None, None).images
    with pytest.raises(OSError, match="a row group of more than 500,000 bytes"):
        found.read(150)
    monkeypatch.setattr(parquet_shards, "LARGEST_GROUP", 5_000_000)
    assert found.read(150) == images[0]["bytes"]


def test_more_rows_than_bytes_are_no_images(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = {"image": pa.nulls(100_000, pa.binary()), "label": pa.repeat(1, 100_000)}
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table(rows), path)
    with pytest.raises(ClbenchError, match=r"has 100,000 rows in .* bytes, too few for images"):
        build(tmp_path, train=path)


def test_texts_that_repeat_are_kept_once(tmp_path):
    labels = ["cat" * 60, "dog" * 60] * 100
    path = write(tmp_path / "0.parquet", range(200), rows=50, names=(), labels=labels)
    found = parquet_set([path], "img", "kind")
    assert [found.values[label] for label in found.labels] == labels
    schema = pytest.importorskip("pyarrow.parquet").read_schema(path)
    kept = {id(label) for label in parquet_shards._labels(path, schema, "kind")}
    assert len(kept) <= 2 * 4  # of each row group


def test_one_number_is_one_class_in_all_files(tmp_path):
    write(tmp_path / "train/0.parquet", range(40))
    other = write(tmp_path / "1.parquet", range(40, 60), names=("dog", "cat"))
    told = r"1\.parquet calls class 0 'dog', and shards before it call it 'cat': write all"
    for fields in ({"test": other}, {"train": [tmp_path / "train", other]}):
        with pytest.raises(ClbenchError, match=told):
            build(tmp_path, **fields)
    more = write(
        tmp_path / "2.parquet", range(40, 60), names=("cat", "dog", "owl"), labels=[0, 1] * 10
    )
    assert build(tmp_path, test=more).class_names == ("cat", "dog")


@pytest.mark.parametrize("column", ["id", "text", "list", "other", "several"])
def test_columns_that_hold_no_image_are_refused(tmp_path, column):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = write(tmp_path / "0.parquet", range(20))
    odd = {
        "text": pa.array(["a"] * 20),
        "list": pa.array([[1]] * 20),
        "other": pa.array([{"data": b"a"}] * 20),
        "several": pa.array([[b"a", b"b"]] * 20),
    }
    table = pq.read_table(path)
    for name, values in odd.items():
        table = table.append_column(name, values)
    pq.write_table(table, path)
    with pytest.raises(ClbenchError, match=rf"column {column} holds .*, and not the bytes"):
        build(tmp_path, train=path, image=column)


def test_labels_that_are_lists_and_files_that_lack_a_column(tmp_path):
    first = write(tmp_path / "0.parquet", range(20))
    with pytest.raises(ClbenchError, match=r"column img holds struct.*, which is neither a number"):
        build(tmp_path, train=first, label="img")
    other = write(tmp_path / "1.parquet", range(20))
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pq.read_table(other).drop_columns(["img"]), other)
    with pytest.raises(ClbenchError, match=r"1\.parquet has no column img"):
        build(tmp_path, train=[first, other])


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "0.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ClbenchError, match=r"pip install 'clbench\[parquet\]', or pack"):
        build(tmp_path, train=path)


def test_places_of_a_part(tmp_path):
    path = write(tmp_path / "a.parquet", range(20))
    images = parquet_set([path], None, None).images
    some = images.pick(torch.tensor([3, 17]).numpy())
    assert [one.read_bytes() for one in some] == [noise(3), noise(17)]
    assert str(some[1]).endswith("a.parquet: row 17")
