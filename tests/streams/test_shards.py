"""Streams from tar shards: what is read, what is passed over, what is refused."""

import json
import re
import tarfile

import pytest
import torch
from shards import add, noise, numbered, picture, write_shard

from clbench.data import contents
from clbench.data.datasets import shard_index
from clbench.data.decode import decode
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse
from clbench.streams import STREAMS, Storage
from clbench.testing import check_stream


def build(tmp_path, storage=None, **fields):
    fields = {"name": "shards", "train": tmp_path / "train", "validation": 0.25} | fields
    config = STREAMS["shards"].model_validate(fields)
    return config.build(tmp_path / "data", Storage(**({"size": 7} | (storage or {}))))


@pytest.fixture
def shards(tmp_path):
    """Two shards for training, one for testing, of four classes."""
    for number in range(2):
        write_shard(tmp_path / f"train/{number:04}.tar", numbered(number * 16, 16))
    write_shard(tmp_path / "test/0000.tar", numbered(100, 8))
    return tmp_path


@pytest.mark.parametrize("keep", ["disk", "memory", "files"])
def test_every_image_has_its_label_wherever_it_is_kept(shards, keep):
    stream = build(shards, {"keep": keep, "stored": 8}, test=shards / "test", tasks=2, order_seed=1)
    stream.allowed.fill_(True)
    pixels = {
        decode(noise(number), 8, "crop").tobytes(): number
        for number in (*range(32), *range(100, 108))
    }
    seen = []
    for task in stream.tasks:
        for part in (task.train, task.validation, task.test):
            images = part.images.take(part.index).permute(0, 2, 3, 1).contiguous().numpy()
            for image, label in zip(images, part.labels.tolist(), strict=True):
                number = pixels[image.tobytes()]
                assert stream.class_names[label] == str(number % 4)
                seen.append(number)
    assert sorted(seen) == [*range(32), *range(100, 108)]
    assert [len(task.validation) for task in stream.tasks] == [4, 4]


def test_shards_are_a_stream_like_any_other(shards):
    stream = {"name": "shards", "train": str(shards / "train"), "tasks": 2, "validation": 0.25}
    check_stream(stream, recipe={"images": {"size": 8}, "data_dir": str(shards / "data")})


@pytest.mark.parametrize(
    "given",
    [
        "train/*.tar",
        "train/{0000..0001}.tar",
        ["train/0000.tar", "train/0001.tar"],
        "train",
    ],
)
def test_ways_to_name_shards(shards, given):
    whole = build(shards)
    listed = [str(shards / one) for one in given] if isinstance(given, list) else shards / given
    assert build(shards, train=listed).manifest_hash == whole.manifest_hash


def test_the_same_images_as_files_make_the_same_splits(shards):
    for part, numbers in (("train", range(32)), ("test", range(100, 108))):
        for number in numbers:
            path = shards / "files" / part / str(number % 4) / f"{number:06}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(noise(number))
    folders = {part: shards / "files" / part for part in ("train", "test")}
    files = STREAMS["image_folder"].model_validate(
        {"name": "image_folder", "tasks": 2, "validation": 0.25, **folders}
    )
    ours = build(shards, test=shards / "test", tasks=2)
    theirs = files.build(shards / "other", Storage(size=7))
    for mine, yours in zip(ours.manifest["tasks"], theirs.manifest["tasks"], strict=True):
        assert mine["sha256"] == yours["sha256"]


def test_labels_and_names_from_json(tmp_path):
    names = ("zebra", "ant")
    samples = {
        f"a/{n:03}.v1": {"jpg": picture(n, "JPEG"), "json": {"label": n % 2, "kind": names[n % 2]}}
        for n in range(20)
    }
    samples = {key.replace(".v1", ""): files for key, files in samples.items()}
    write_shard(tmp_path / "train/0.tar", samples, format=tarfile.GNU_FORMAT)
    assert build(tmp_path).class_names == ("0", "1")
    assert build(tmp_path, label="kind").class_names == ("ant", "zebra")
    (tmp_path / "names.txt").write_text("zebra\nant\n", "utf-8")
    named = build(tmp_path, names=tmp_path / "names.txt")
    assert named.class_names == ("zebra", "ant")
    assert named.manifest["tasks"][0]["classes"] == ["zebra", "ant"]
    ordered = build(tmp_path, names=tmp_path / "names.txt", label="kind")
    assert ordered.class_names == ("zebra", "ant")


def test_long_names_and_several_images_of_a_sample(tmp_path):
    long = "folder-" * 30 + "/"
    samples = {
        f"{long}{n:03}": {"left.png": picture(n), "right.png": picture(99), "cls": str(n % 2)}
        for n in range(12)
    }
    for style in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        write_shard(tmp_path / "train/0.tar", samples, format=style)
        stream = build(tmp_path, image=".left.png", storage={"stored": 8})
        images = stream.test_images.take(torch.arange(2))
        assert images[:, 0, 0, 0].tolist() == [8, 9]
        with pytest.raises(ClbenchError, match=r"second image of its sample, beside \.left\.png"):
            build(tmp_path)


def test_the_index_is_made_once_and_again_after_a_change(shards, monkeypatch):
    monkeypatch.setattr(contents, "SETTLED", -(10**12))
    first = build(shards)
    index = list((shards / "data/cache").glob("shards-*.npz"))
    assert len(index) == 1
    scan = shard_index.scan
    monkeypatch.setattr(shard_index, "scan", lambda *_: pytest.fail("looked again"))
    assert build(shards).manifest_hash == first.manifest_hash
    monkeypatch.setattr(shard_index, "scan", scan)
    write_shard(shards / "train/0001.tar", numbered(64, 16))
    second = build(shards)
    assert second.manifest_hash != first.manifest_hash
    whole = index[0].read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"no index"):
        index[0].write_bytes(damaged)
        assert build(shards).manifest_hash == second.manifest_hash
        assert len(index[0].read_bytes()) == len(whole)


def test_an_index_that_cannot_be_written_costs_time_alone(shards, monkeypatch):
    whole = build(shards).manifest_hash

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_index, "_save", full)
    for path in (shards / "data/cache").glob("shards-*.npz"):
        path.unlink()
    assert build(shards).manifest_hash == whole
    assert not list((shards / "data/cache").glob("shards-*.npz"))


def test_nothing_is_unpacked_and_what_leads_out_is_said(tmp_path, capsys):
    outside = tmp_path / "outside.png"
    path = tmp_path / "train/0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for key, files in numbered(0, 20).items():
            add(tar, f"{key}.png", files["png"])
            add(tar, f"{key}.cls", files["cls"].encode())
        add(tar, str(outside), picture(1))
        add(tar, "a/../../outside.png", picture(1))
        add(tar, "link.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "hard.png", b"", type=tarfile.LNKTYPE, linkname="000000.png")
        add(tar, "pipe.png", b"", type=tarfile.FIFOTYPE)
        add(tar, "folder", b"", type=tarfile.DIRTYPE)
        add(tar, "._000000.png", b"resource fork")
        add(tar, "text.txt", b"a caption")
        add(tar, "alone.cls", b"7")
    stream = build(tmp_path)
    assert len(stream.train_images) + len(stream.test_images) == 20
    told = capsys.readouterr().out
    for part in (
        "2 names that lead out of the shard",
        "3 links, devices and the like",
        "1 hidden files",
        "1 .txt files",
        "1 labels without an image",
    ):
        assert part in told
    assert {one.name for one in tmp_path.iterdir()} == {"train", "data"}


def refused(tmp_path, **fields):
    with pytest.raises(ClbenchError) as caught:
        build(tmp_path, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"pyd": b"cos\nsystem\n."}, r"000003\.pyd is a pickle, which can run programs"),
        ({"meta.pickle": b"\x80\x04."}, r"000003\.meta\.pickle is a pickle"),
        ({"cls": b"cat"}, r"000003\.cls holds b'cat', and not the number of a class"),
        ({"cls": b"-1"}, r"holds b'-1'"),
        ({"cls": b"1" * 40}, r"and not the number"),
        ({"cls": b"1" * 100}, r"000003\.cls has 100 bytes, and may have 1 to 64"),
        ({"cls": b""}, r"000003\.cls has 0 bytes"),
        ({"cls": None}, r"000003\.png has no label: pack a \.cls"),
        ({"cls": None, "json": b"{"}, r"000003\.json is no JSON"),
        ({"cls": None, "json": b"[" * 200_000}, r"000003\.json is no JSON"),
        ({"cls": None, "json": b'{"label": 1' + b"0" * 5000 + b"}"}, r"000003\.json "),
        ({"cls": None, "json": b'{"label": [1]}'}, r"has the label \[1\] at 'label'"),
        ({"cls": None, "json": b'{"label": true}'}, r"has the label True"),
        ({"cls": None, "json": b'{"label": "a\\nb"}'}, r"has the label 'a\\nb'"),
        ({"cls": None, "json": b'{"other": 1}'}, r"000003\.png has no label"),
        ({"cls": None, "json": b"[1]"}, r"000003\.png has no label"),
        ({"cls": None, "json": b'{"label": "cat"}'}, r"the labels are numbers and names"),
        ({"png": b""}, r"000003\.png has 0 bytes"),
    ],
)
def test_samples_that_are_refused_name_shard_and_member(tmp_path, extra, told):
    samples = numbered(0, 20)
    samples["000003"] = {k: v for k, v in (samples["000003"] | extra).items() if v is not None}
    write_shard(tmp_path / "train/0.tar", samples)
    text = refused(tmp_path)
    assert re.search(told, text)
    assert "0.tar" in text or "stream.label" in text


def test_shards_that_are_cut_damaged_or_huge_stop_early(tmp_path):
    path = write_shard(tmp_path / "train/0.tar", numbered(0, 20))
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        third = tar.getmember("000003.png")
    header = slice(third.offset, third.offset + 512)

    def with_header(**fields):
        info = tarfile.TarInfo("000003.png")
        for key, value in fields.items():
            setattr(info, key, value)
        made = info.tobuf(tarfile.GNU_FORMAT)[:512]
        return whole[: header.start] + made + whole[header.stop :]

    for content, told in (
        (whole[: third.offset_data + 20], "is damaged, cut or no tar archive, at byte"),
        (whole[: third.offset + 100], "is damaged, cut or no tar archive, at byte"),
        (whole[: third.offset], "no mark of its end"),
        (whole[: header.start] + b"\xff" * 512 + whole[header.stop :], "no header"),
        (with_header(size=2**40), "has 1,099,511,627,776 bytes, and may have 1 to 268,435,456"),
        (with_header(size=2**27), "is damaged, cut or no tar archive"),
        (with_header(size=2**35, type=b"L"), "a header that claims more than 1 MiB"),
        (with_header(size=2**35, type=b"x"), "a header that claims more than 1 MiB"),
        (b"no archive", "is damaged, cut or no tar archive, at byte 0"),
        (b"", "is damaged, cut or no tar archive, at byte 0"),
        (whole + whole, "something behind its end: archives go together by tar -A"),
        (b"\x1f\x8b\x08\x00" + whole, "is compressed, so that no image can be read by its place"),
    ):
        path.write_bytes(content)
        text = refused(tmp_path)
        assert told in text, text
        assert "0.tar" in text


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("000003.png", "000003.cls"), "000003.png is in the shard more than once (samples that"),
        (("000019.cls",), "000019.cls is a second label of its sample"),
        (("000020.png", "000020.json", "000020.json"), "000020.json is a second label"),
    ],
)
def test_what_is_there_twice_is_refused(tmp_path, names, told):
    """Which of both labels is right nobody knows."""
    path = write_shard(tmp_path / "train/0.tar", numbered(0, 20))
    contents = {"png": noise(77), "cls": b"1", "json": b'{"label": 1}'}
    with tarfile.open(path, "a") as tar:
        for name in names:
            add(tar, name, contents[name.rpartition(".")[2]])
    assert told in refused(tmp_path)


def test_an_image_that_is_none_is_named_with_its_shard(tmp_path):
    samples = numbered(0, 20)
    samples["000003"]["png"] = samples["000003"]["png"][:40]
    write_shard(tmp_path / "train/0.tar", samples)
    for keep in ("disk", "files"):
        text = refused(tmp_path, storage={"keep": keep})
        assert re.search(r"0\.tar: 000003\.png cannot be read as an image \(", text)
    bomb = bytearray(picture(0, "BMP"))
    bomb[18:26] = (60_000).to_bytes(4, "little") * 2
    samples["000003"] = {"bmp": bytes(bomb), "cls": "3"}
    write_shard(tmp_path / "train/0.tar", samples)
    assert "0.tar: 000003.bmp cannot be read as an image" in refused(tmp_path)


def test_a_shard_changed_while_it_is_used_is_noticed(shards):
    stream = build(shards, {"keep": "files"})
    stream.allowed.fill_(True)
    path = shards / "train/0000.tar"
    content = bytearray(path.read_bytes())
    place = stream.train_images.paths.places[0]
    content[place["offset"] + 60] ^= 1
    path.write_bytes(content)
    with pytest.raises(ClbenchError, match=r"0000\.tar: 000000\.png was changed while it was in"):
        stream.train_images.take(torch.tensor([0]))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"train": "nowhere"}, "stream.train: 1 of 1 shards are not there"),
        ({"train": "nowhere/*.tar"}, "there are no shards: give .tar or .parquet files"),
        ({"train": "train/{0000..0003}.tar"}, "2 of 4 shards are not there"),
        ({"train": "train/{0..100000}.tar"}, "stands for 100,001 shards, and may for 100,000"),
        ({"train": ["train", "train/0000.tar"]}, "is given twice"),
        ({"test": "train/0001.tar"}, "is given twice"),
        ({"train": ["train", "other.zip"]}, "other.zip is neither"),
        ({"train": "other.tar.gz"}, "decompress them"),
        ({"train": ["train", "other.parquet"]}, "name those of one kind"),
        ({"label": "nothing"}, "has no label"),
        ({"test": "strange"}, "the labels 7 are in stream.test alone"),
        ({"names": "short.txt"}, "the labels 2, 3 have no name among the 2"),
        ({"names": "double.txt"}, "two classes have one name"),
        ({"train": "few"}, "classes with fewer than 5 images"),
    ],
)
def test_what_does_not_fit_is_one_line(shards, fields, told):
    for ending in ("zip", "tar.gz", "parquet"):
        (shards / f"other.{ending}").write_bytes(b"PK")
    write_shard(shards / "strange/0.tar", {"1": {"png": picture(1), "cls": "7"}})
    write_shard(shards / "few/0.tar", numbered(0, 9, 2))
    (shards / "short.txt").write_text("a\nb\n")
    (shards / "double.txt").write_text("a\nb\nb\nc\n")

    def there(value):
        if isinstance(value, list):
            return [shards / one for one in value]
        return value if value == "nothing" else shards / value

    assert told in refused(shards, **{key: there(value) for key, value in fields.items()})


def test_equal_images_for_training_and_testing_are_said(shards, capsys):
    write_shard(shards / "test/0000.tar", numbered(0, 8))
    build(shards, test=shards / "test")
    assert re.search(
        r"Of 8 test images, 8 are training images too.*0000\.tar: 000000\.png",
        capsys.readouterr().out,
    )


def test_a_few_images_of_each_class(shards):
    stream = build(shards, train_per_class=2, test=shards / "test", test_per_class=1)
    assert len(stream.train_images) == 8
    assert len(stream.test_images) == 4


def test_fields_of_shards_go_through_a_recipe(shards):
    values = {
        "stream": {"name": "shards", "train": str(shards / "train/{0000..0001}.tar")},
        "model": {"backbone": "tiny_cnn", "weights": "none"},
        "images": {"size": 8},
        "data_dir": str(shards / "data"),
        "epochs": 1,
    }
    recipe = parse(values)
    assert parse(json.loads(json.dumps(recipe.model_dump(mode="json")))) == recipe
    assert len(recipe.build_stream().class_names) == 4


def test_a_place_takes_few_bytes():
    from clbench.data.members import PLACE

    assert PLACE.itemsize <= 16
