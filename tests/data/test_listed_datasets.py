"""Data sets by text lists and folders, read from their real on-disk formats."""

import hashlib
import pkgutil
from pathlib import Path

import list_writers as write
import numpy as np
import pytest
import writers
from torchvision import datasets as tv

from clbench.cli.cli import main
from clbench.data.datasets import DATASETS, SOURCES, load
from clbench.data.datasets.core50 import TEST_SESSIONS, TRAIN_SESSIONS
from clbench.data.datasets.lists import DOMAINNET_DOMAINS
from clbench.data.datasets.packed import OFFICE_HOME_DOMAINS
from clbench.data.datasets.sizes import SIZES, Size
from clbench.errors import ClbenchError
from clbench.streams import STREAMS, Storage

BIRDS = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
CUB = [
    (f"{BIRDS[0]}/Black_Footed_Albatross_0046_18.jpg", 1, 0),
    (f"{BIRDS[0]}/Black_Footed_Albatross_0009_34.jpg", 1, 1),
    (f"{BIRDS[1]}/Laysan_Albatross_0002_1027.jpg", 2, 1),
    (f"{BIRDS[1]}/Laysan_Albatross_0003_1033.jpg", 2, 0),
]
WNIDS = ["n02124075", "n01443537"]


@pytest.fixture
def sized(monkeypatch):
    """Has a data set of another size than the real one."""

    def size(name, classes, train, test, **more):
        monkeypatch.setitem(SIZES, name, Size(classes, train, test, None, 0, **more))

    return size


def parts(data):
    """Names and labels of the training and of the test part."""
    found = []
    for part in (data.train, data.test):
        assert part.labels.dtype == np.int64
        assert len(part.labels) == len(part.images)
        assert all(isinstance(path, Path) and path.is_file() for path in part.images)
        found.append([(p.name, k) for p, k in zip(part.images, part.labels.tolist(), strict=True)])
    return found


def refused(name, root):
    with pytest.raises(ClbenchError) as caught:
        load(name, root, download=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cub200(tmp_path, sized, capsys):
    sized("cub200", 2, 2, 2)
    write.write_cub200(tmp_path, CUB, BIRDS)
    data = load("cub200", tmp_path)
    assert data.classes == ("Black_footed_Albatross", "Laysan_Albatross")
    train, test = parts(data)
    assert train == [
        ("Black_Footed_Albatross_0009_34.jpg", 0),
        ("Laysan_Albatross_0002_1027.jpg", 1),
    ]
    assert test == [
        ("Black_Footed_Albatross_0046_18.jpg", 0),
        ("Laysan_Albatross_0003_1033.jpg", 1),
    ]
    assert capsys.readouterr().out == ""


def test_other_numbers_than_published_are_said_or_refused(tmp_path, sized, capsys):
    write.write_cub200(tmp_path, CUB, BIRDS)
    assert "it has 2 classes instead of 200" in refused("cub200", tmp_path)
    sized("cub200", 2, 5994, 5794)
    load("cub200", tmp_path)
    told = capsys.readouterr().out
    assert "has 2 training and 2 test images, not the 5,994 and 5,794 that are known" in told


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("images.txt", "1 a.jpg\n", "do not number the same images"),
        ("images.txt", "", "images.txt is empty"),
        ("image_class_labels.txt", "1 1\n2 1\n3 2\n4\n", "line 4 of .* has 1 words, not 2"),
        ("image_class_labels.txt", "1 1\n2 1\n3 2\n4 9\n", "classes.txt lacks the classes .* 9"),
        ("train_test_split.txt", "\xff", "train_test_split.txt: UnicodeDecodeError"),
    ],
)
def test_lists_that_disagree(file, content, told, tmp_path):
    write.write_cub200(tmp_path, CUB, BIRDS)
    (tmp_path / "CUB_200_2011" / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(ClbenchError, match=told):
        load("cub200", tmp_path)


def test_listed_images_must_be_there(tmp_path, sized):
    sized("cub200", 2, 2, 2)
    write.write_cub200(tmp_path, CUB, BIRDS)
    (tmp_path / "CUB_200_2011" / "images" / CUB[1][0]).unlink()
    assert "1 of 2 files are not there" in refused("cub200", tmp_path)


def test_tiny_imagenet(tmp_path, sized):
    sized("tiny_imagenet", 2, 6, 3)
    write.write_tiny_imagenet(tmp_path, WNIDS, 3, [WNIDS[0], WNIDS[1], WNIDS[0]])
    data = load("tiny_imagenet", tmp_path)
    assert data.classes == ("n01443537", "n02124075")
    train, test = parts(data)
    assert [label for _, label in train] == [0, 0, 0, 1, 1, 1]
    assert all(name.startswith(data.classes[label]) for name, label in train)
    assert test == [("val_0.JPEG", 1), ("val_1.JPEG", 0), ("val_2.JPEG", 1)]
    annotations = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text().replace(WNIDS[1], "n09999999"))
    assert "val_annotations.txt has n09999999, wnids.txt has not" in refused(
        "tiny_imagenet", tmp_path
    )


def test_sun397(tmp_path, sized):
    sized("sun397", 2, 2, 2)
    classes = ["/a/abbey", "/a/apartment_building/outdoor"]
    files = [[f"{name}/sun_{part}.jpg" for name in classes] for part in ("train", "test")]
    write.write_sun397(tmp_path, classes, *files)
    data = load("sun397", tmp_path)
    assert data.classes == ("abbey", "apartment_building/outdoor")
    assert parts(data) == [[(f"sun_{p}.jpg", 0), (f"sun_{p}.jpg", 1)] for p in ("train", "test")]


def test_domainnet(tmp_path, sized):
    sized("domainnet", 12, 24, 12)
    write.write_domainnet(tmp_path, DOMAINNET_DOMAINS, ["aircraft_carrier", "zigzag"])
    data = load("domainnet", tmp_path)
    assert data.classes == ("aircraft_carrier", "zigzag") * 6
    train, test = parts(data)
    assert [label for _, label in test] == list(range(12))
    assert train[-1] == ("sketch_001_000001.jpg", 11)
    config = STREAMS["domainnet"].model_validate(
        {"name": "domainnet", "validation": 0, "domains": ["sketch", "clipart"]}
    )
    stream = config.build(tmp_path, Storage(size=8, keep="files"))
    assert stream.shared
    assert stream.class_names == ("aircraft_carrier", "zigzag")
    assert [task.name for task in stream.tasks] == ["sketch", "clipart"]
    for task in stream.tasks:
        assert task.train.labels.tolist() == [0, 0, 1, 1]
        names = [stream.test_images.paths[i].name for i in task.test.index.tolist()]
        assert names == [f"{task.name}_000_000002.jpg", f"{task.name}_001_000002.jpg"]
    lists = tmp_path / "domainnet" / "real_test.txt"
    lists.write_text(lists.read_text().replace(" 1", " 0"))
    assert "label 0 stands for both aircraft_carrier and zigzag" in refused("domainnet", tmp_path)


def test_core50(tmp_path):
    write.write_core50(tmp_path)
    data = load("core50", tmp_path)
    assert len(data.classes) == 50
    train, test = parts(data)
    assert {name.split("_")[1] for name, _ in test} == {f"{s:02d}" for s in TEST_SESSIONS}
    assert {name.split("_")[1] for name, _ in train} == {f"{s:02d}" for s in TRAIN_SESSIONS}
    assert all(int(name.split("_")[2]) == label + 1 for name, label in train + test)
    nc = STREAMS["split_core50"].model_validate({"name": "split_core50", "validation": 0})
    files = Storage(size=8, keep="files")
    for folder in (tmp_path / "core50_128x128").rglob("*.png"):
        folder.write_bytes(PICTURE)
    stream = nc.build(tmp_path, files)
    assert [len(task.classes) for task in stream.tasks] == [10, *[5] * 8]
    assert [(len(task.train), len(task.test)) for task in stream.tasks][:2] == [(80, 30), (40, 15)]
    ni = STREAMS["core50_ni"].model_validate({"name": "core50_ni", "validation": 0})
    stream = ni.build(tmp_path, files)
    assert [task.name for task in stream.tasks] == [f"s{s}" for s in TRAIN_SESSIONS]
    assert len(stream.class_names) == 50
    for task in stream.tasks:
        paths = [stream.train_images.paths[i] for i in task.train.index.tolist()]
        assert [path.parts[-3:-1] for path in paths] == [(task.name, f"o{k}") for k in range(1, 51)]
        assert task.test.index.tolist() == stream.tasks[0].test.index.tolist()
        tested = [stream.test_images.paths[i].parts[-3] for i in task.test.index.tolist()]
        assert {name: tested.count(name) for name in tested} == {"s3": 50, "s7": 50, "s10": 50}


PICTURE = writers.jpeg()


def test_office_home(tmp_path, sized):
    sized("office_home", 8, 16, 4, drawn=True)
    for domain in OFFICE_HOME_DOMAINS:
        place = tmp_path / "OfficeHomeDataset_10072016" / domain
        write.write_folders(place, {"Alarm_Clock": 5, "Bottle": 4 if domain == "Art" else 5})
    data = load("office_home", tmp_path)
    assert data.classes == ("Alarm_Clock", "Bottle") * 4
    train, test = parts(data)
    assert [label for _, label in test] == [0, 2, 3, 4, 5, 6, 7]
    assert ("Ala_4.jpg", 0) in test
    assert len(train) == 4 * 8
    (tmp_path / "OfficeHomeDataset_10072016" / "Art" / "Bottle").rename(tmp_path / "gone")
    assert "only one of Art and Clipart has Bottle" in refused("office_home", tmp_path)


def synsets(name):
    return pkgutil.get_data("timm.data", f"_info/{name}_synsets.txt").decode().split()


def test_imagenet_r_has_a_fixed_fifth_for_testing(tmp_path, sized):
    sized("imagenet_r", 200, 320, 80)
    names = synsets("imagenet_r")
    assert len(set(names)) == 200
    write.write_folders(tmp_path / "imagenet-r", dict.fromkeys(names, 2))
    data = load("imagenet_r", tmp_path)
    assert data.classes == tuple(sorted(names))
    train, test = parts(data)
    assert (len(train), len(test)) == (320, 80)

    def digest(row):
        return hashlib.sha256(f"{data.classes[row[1]]}/{row[0]}".encode()).digest()

    assert max(map(digest, test)) < min(map(digest, train))
    (tmp_path / "imagenet-r" / names[0]).rename(tmp_path / "imagenet-r" / "n00000000")
    told = refused("imagenet_r", tmp_path)
    assert f"there are no folders {names[0]}; of no class are n00000000" in told


@pytest.mark.parametrize(
    "name",
    [
        *("imagenet_r_pilot", "imagenet_a", "vtab", "notmnist"),
        *("cub200_pilot", "objectnet", "omnibenchmark"),
    ],
)
def test_packed_folders(name, tmp_path, sized):
    lists = {"imagenet_r_pilot": "imagenet_r", "imagenet_a": "imagenet_a"}
    names = synsets(lists[name]) if name in lists else ["F", "A"]
    count = len(names)
    sized(name, count, 2 * count, count)
    train, test = ("Train", "Test") if name == "notmnist" else ("train", "test")
    folder = tmp_path / SOURCES[name].folder
    write.write_folders(folder / train, dict.fromkeys(names, 2))
    write.write_folders(folder / test, dict.fromkeys(names, 1))
    if name == "notmnist":  # known to be damaged
        (folder / train / "F" / "Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png").write_bytes(b"")
    data = load(name, tmp_path)
    assert data.classes == tuple(sorted(names))
    found = parts(data)
    assert [len(part) for part in found] == [2 * count, count]
    assert [label for _, label in found[1]] == list(range(count))
    (folder / test / names[0]).rename(tmp_path / "gone")
    assert f"only one of {train} and {test} has {names[0]}" in refused(name, tmp_path)
    if name == "imagenet_r_pilot":
        told = refused("imagenet_r", tmp_path)
        assert "as PILOT has it: that is stream split_imagenet_r_pilot" in told


def test_svhn(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for split, rows in (("train", slice(3)), ("test", slice(1))):
        name = f"{split}_32x32.mat"
        path = write.write_svhn(tmp_path / "svhn", name, images[rows], [10, 1, 9][rows])
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        monkeypatch.setitem(tv.SVHN.split_list, split, ["", name, md5])
    data = load("svhn", tmp_path, download=False)
    np.testing.assert_array_equal(data.train.images, images)
    assert data.train.labels.tolist() == [0, 1, 9]
    assert data.test.labels.tolist() == [0]


def test_dtd_aircraft_pets_and_eurosat(tmp_path, sized):
    for name, classes, train, test in (
        ("dtd", 2, 4, 2),
        ("fgvc_aircraft", 2, 2, 2),
        ("oxford_pets", 2, 2, 2),
        ("eurosat", 2, 8, 2),
    ):
        sized(name, classes, train, test)
    base = tmp_path / "dtd" / "dtd"
    for part in ("train", "val", "test"):
        files = [f"{kind}/{kind}_{part}.jpg" for kind in ("banded", "zigzagged")]
        write.write_lines(base / "labels" / f"{part}1.txt", files)
        for file in files:
            writers.write_image(base / "images" / file)
    base = tmp_path / "fgvc-aircraft-2013b" / "data"
    write.write_lines(base / "variants.txt", ["707-320", "Boeing 717"])
    for part in ("trainval", "test"):
        rows = [f"{part}0 707-320", f"{part}1 Boeing 717"]
        write.write_lines(base / f"images_variant_{part}.txt", rows)
        for row in rows:
            writers.write_image(base / "images" / f"{row.split()[0]}.jpg")
    base = tmp_path / "oxford-iiit-pet"
    for part in ("trainval", "test"):
        rows = [f"Abyssinian_{part} 1 1 1", f"american_bulldog_{part} 2 2 1"]
        write.write_lines(base / "annotations" / f"{part}.txt", rows)
        for row in rows:
            writers.write_image(base / "images" / f"{row.split()[0]}.jpg")
    write.write_folders(tmp_path / "eurosat" / "2750", {"AnnualCrop": 5, "SeaLake": 5})
    wanted = {
        "dtd": ("banded", "zigzagged"),
        "fgvc_aircraft": ("707-320", "Boeing 717"),
        "oxford_pets": ("Abyssinian", "American Bulldog"),
        "eurosat": ("AnnualCrop", "SeaLake"),
    }
    for name, classes in wanted.items():
        data = load(name, tmp_path, download=False)
        assert data.classes == classes
        train, test = parts(data)
        assert (len(train), len(test)) == (SIZES[name].train, SIZES[name].test)
        assert {label for _, label in train} == {label for _, label in test} == {0, 1}


# --- clbench data -----------------------------------------------------------------------------


def test_clbench_data_says_what_goes_where(tmp_path, sized, capsys):
    assert main(["data", "split_cub200", "--data_dir", str(tmp_path)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == ("cub200 (CUB-200-2011): 200 classes, 5,994 training and 5,794 test images")
    assert "CUB_200_2011.tgz); it must be fetched by hand" in told[1]
    assert f"belongs in  {tmp_path / 'CUB_200_2011'}: classes.txt, images.txt" in told[2]
    assert told[3].startswith("  is there    no: ")
    write.write_cub200(tmp_path, CUB, BIRDS)
    assert main(["data", "cub200", "--data_dir", str(tmp_path)]) == 1
    assert "no: it has 2 classes instead of 200" in capsys.readouterr().out
    sized("cub200", 2, 2, 2)
    assert main(["data", "cub200", "digits", "--data_dir", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "yes, as it was published: 2 training and 2 test images" in told
    assert "yes, as it was published: 1,442 training and 355 test images" in told
    sized("cub200", 2, 3, 3)
    assert main(["data", "cub200", "--data_dir", str(tmp_path)]) == 1
    assert "in another state: it has 2 training and 2 test images" in capsys.readouterr().out


def test_clbench_data_says_what_a_stream_needs_besides(tmp_path, capsys):
    place = f"{tmp_path / 'batches_filelists'}, which stream core50_runs needs,"
    assert main(["data", "core50_runs", "--data_dir", str(tmp_path)]) == 1
    assert f"besides     {place} is not there" in capsys.readouterr().out
    (tmp_path / "batches_filelists").mkdir()
    assert main(["data", "core50", "--data_dir", str(tmp_path)]) == 1
    assert f"besides     {place} is there" in capsys.readouterr().out


def test_clbench_data_lists_all(tmp_path, capsys):
    (tmp_path / "cub").mkdir()
    assert main(["data", "--data_dir", str(tmp_path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == list(DATASETS)
    states = {line.split()[0]: line for line in told}
    assert "there is a folder" in states["cub200_pilot"]
    assert "by hand" in states["vtab"]
    assert "--fetch" in states["svhn"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("split_cub20", "no data set or stream 'split_cub20' (did you mean split_cub200?)"),
        ("image_folder", "the stream image_folder needs no data set of clbench's"),
    ],
)
def test_clbench_data_of_what_is_none(name, told, capsys):
    assert main(["data", name]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_every_stream_knows_its_data():
    from clbench.streams import data_sets

    for name in STREAMS:
        assert set(data_sets(name)) <= set(DATASETS), name
    assert set(SIZES) == set(DATASETS) == {"digits", *SOURCES}
