"""The data sets of the model-merging literature, read from their real on-disk formats."""

import hashlib
import sys

import list_writers as write
import numpy as np
import pytest
import writers
from test_listed_datasets import parts, refused, sized  # noqa: F401, a fixture
from torchvision import datasets as tv

from clbench.data.datasets import load
from clbench.data.datasets.sizes import SIZES, Size


def pixels(count, *shape):
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_gtsrb(tmp_path, sized):  # noqa: F811
    sized("gtsrb", 43, 3, 2)
    write.write_gtsrb(tmp_path, {"00003": 2, "00042": 1}, [(0, 42), (1, 3)])
    data = load("gtsrb", tmp_path, download=False)
    assert data.classes == tuple(str(label) for label in range(43))
    train, test = parts(data)
    # torchvision would number the folders that are there: 0 and 1
    assert train == [("00000_00000.ppm", 3), ("00000_00001.ppm", 3), ("00000_00000.ppm", 42)]
    assert test == [("00000.ppm", 42), ("00001.ppm", 3)]
    (tmp_path / "gtsrb" / "GT-final_test.csv").unlink()
    assert "FileNotFoundError" in refused("gtsrb", tmp_path)
    (tmp_path / "gtsrb" / "GTSRB" / "Training" / "00042").rename(
        tmp_path / "gtsrb" / "GTSRB" / "Training" / "copy"
    )
    assert "training labels run from -1 to 3" in refused("gtsrb", tmp_path)


def test_resisc45(tmp_path, sized):  # noqa: F811
    sized("resisc45", 2, 3, 2)
    lists = {
        "train": ["baseball_diamond_002.jpg", "airplane_700.jpg", "airplane_001.jpg"],
        "val": ["airplane_003.jpg"],
        "test": ["airplane_002.jpg", "baseball_diamond_001.jpg"],
    }
    write.write_resisc45(tmp_path, lists)
    data = load("resisc45", tmp_path)
    assert data.classes == ("airplane", "baseball_diamond")
    labels = {"airplane": 0, "baseball_diamond": 1}
    wanted = [
        [(file, labels[file.rpartition("_")[0]]) for file in lists[part]]
        for part in ("train", "test")
    ]
    assert parts(data) == wanted
    write.write_lines(tmp_path / "resisc45" / "resisc45-test.txt", lists["train"][:1])
    assert "1 images are in both lists, the first is baseball_diamond_002.jpg" in refused(
        "resisc45", tmp_path
    )


def test_stl10(tmp_path, monkeypatch):
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    images = pixels(3, 96, 96, 3)
    folder = tmp_path / "stl10_binary"
    write.write_stl10(folder, names, (images, [1, 10, 2]), (images[:1], [3]))
    for files in ("train_list", "test_list"):
        sums = [[file, md5(folder / file)] for file, _ in getattr(tv.STL10, files)]
        monkeypatch.setattr(tv.STL10, files, sums)
    data = load("stl10", tmp_path, download=False)
    np.testing.assert_array_equal(data.train.images, images)
    np.testing.assert_array_equal(data.test.images, images[:1])
    assert data.train.labels.tolist() == [0, 9, 1]
    assert data.test.labels.tolist() == [2]
    assert data.classes == tuple(names)
    (folder / "class_names.txt").unlink()
    assert "has no class_names.txt" in refused("stl10", tmp_path)


@pytest.mark.parametrize("file", ["fer2013.csv", "icml_face_data.csv"])
def test_fer2013(file, tmp_path, monkeypatch):
    images = pixels(4, 48, 48)
    rows = [(0, "Training"), (6, "Training"), (3, "PublicTest"), (4, "PrivateTest")]
    path = write.write_fer2013(tmp_path / "fer2013" / file, images, rows)
    monkeypatch.setattr(
        tv.FER2013, "_RESOURCES", {"fer": ("fer2013.csv", None), "icml": (file, md5(path))}
    )
    data = load("fer2013", tmp_path)
    np.testing.assert_array_equal(data.train.images, images[:2])
    np.testing.assert_array_equal(data.test.images, images[2:])
    assert data.train.labels.tolist() == [0, 6]
    assert data.test.labels.tolist() == [3, 4]
    assert [data.classes[label] for label in (0, 3, 4, 6)] == ["angry", "happy", "sad", "neutral"]


def test_fer2013_without_labels_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "fer2013"
    write.write_fer2013(folder / "train.csv", pixels(1, 48, 48), [(0, "")])
    write.write_fer2013(folder / "test.csv", pixels(1, 48, 48), [("", "")])
    files = {part: (f"{part}.csv", None) for part in ("train", "test")}
    known = {"fer": ("fer2013.csv", None), "icml": ("icml_face_data.csv", None)}
    monkeypatch.setattr(tv.FER2013, "_RESOURCES", {**files, **known})
    told = refused("fer2013", tmp_path)
    assert "must hold fer2013.csv or icml_face_data.csv" in told
    assert "the test part has no labels" in told


def test_emnist_digits(tmp_path):
    train, test = pixels(4, 28, 28), pixels(2, 28, 28)
    labels = [np.array([9, 0, 3, 3], np.uint8), np.array([1, 0], np.uint8)]
    raw = tmp_path / "EMNIST" / "raw"
    writers.write_idx(raw, [train, labels[0], test, labels[1]])
    for name in writers.IDX_FILES:
        part, _, rest = name.partition("-")
        part = "train" if part == "train" else "test"
        (raw / name).rename(raw / f"emnist-digits-{part}-{rest}")
    data = load("emnist_digits", tmp_path, download=False)
    np.testing.assert_array_equal(data.train.images, train)
    np.testing.assert_array_equal(data.test.images, test)
    assert data.train.labels.tolist() == [9, 0, 3, 3]
    assert data.classes == tuple("0123456789")


def test_rendered_sst2(tmp_path, sized):  # noqa: F811
    sized("rendered_sst2", 2, 3, 2)
    for part, counts in (("train", (2, 1)), ("valid", (1, 1)), ("test", (1, 1))):
        kinds = dict(zip(("negative", "positive"), counts, strict=True))
        write.write_folders(tmp_path / "rendered-sst2" / part, kinds, ".png")
    data = load("rendered_sst2", tmp_path, download=False)
    assert data.classes == ("negative", "positive")
    train, test = parts(data)
    assert train == [("neg_0.png", 0), ("neg_1.png", 0), ("pos_0.png", 1)]
    assert [label for _, label in test] == [0, 1]


def test_eurosat_in_the_folders_of_the_merging_papers(tmp_path, sized):  # noqa: F811
    sized("eurosat_splits", 2, 4, 2)
    for part, count in (("train", 2), ("val", 1), ("test", 1)):
        kinds = dict.fromkeys(("AnnualCrop", "SeaLake"), count)
        write.write_folders(tmp_path / "EuroSAT_splits" / part, kinds)
    data = load("eurosat_splits", tmp_path)
    assert [len(part) for part in parts(data)] == [4, 2]
    assert data.classes == ("AnnualCrop", "SeaLake")


def test_pcam(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setitem(SIZES, "pcam", Size(2, 3, 2, None, 0))
    images = pixels(5, 96, 96, 3)
    write.write_pcam(h5py, tmp_path / "pcam", "train", images[:3], [1, 0, 1])
    write.write_pcam(h5py, tmp_path / "pcam", "test", images[3:], [0, 0])
    data = load("pcam", tmp_path)
    assert data.classes == ("normal", "tumour")
    assert [[label for _, label in part] for part in parts(data)] == [[1, 0, 1], [0, 0]]
    read = np.stack([np.asarray(writers.Image.open(path)) for path in data.train.images])
    np.testing.assert_array_equal(read, images[:3])
    for file in (tmp_path / "pcam").iterdir():  # from then on the files are enough
        file.unlink()
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert [path.name for path in load("pcam", tmp_path).test.images] == [
        "0000000.png",
        "0000001.png",
    ]


def test_pcam_without_h5py_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install h5py" in refused("pcam", tmp_path)
