"""Data sets of torchvision and the Hugging Face hub by name, offline where the files are there."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image

from clbench.data.datasets import hub_sets
from clbench.data.datasets.torchvision_sets import torchvision_set
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse
from clbench.testing import check_stream

FAKE = {
    "name": "torchvision",
    "dataset": "FakeData",
    "arguments": {"size": 60, "image_size": [3, 12, 12], "num_classes": 4},
}


def recipe(stream, data_dir):
    return parse(
        {
            "stream": stream,
            "model": {"backbone": "tiny_cnn", "weights": "none"},
            "images": {"size": 8},
            "steps": 1,
            "data_dir": str(data_dir),
        }
    )


def test_a_class_of_torchvision_is_a_stream(tmp_path, capsys):
    stream = FAKE | {"tasks": 2, "order_seed": 3}
    check_stream(stream, recipe={"images": {"size": 8}, "data_dir": str(tmp_path)})
    made = recipe(stream, tmp_path).build_stream()
    assert "FakeData has no test part: every fifth image" in capsys.readouterr().out
    assert [len(task.classes) for task in made.tasks] == [2, 2]
    labels = [tv.FakeData(60, (3, 12, 12), 4)[i][1] for i in range(60)]
    tested = sum(len(task.test) for task in made.tasks)
    assert tested == sum(labels.count(c) // 5 for c in range(4))
    named = recipe(FAKE | {"classes": [["3", "0"], [1]]}, tmp_path).build_stream()
    assert named.class_names == ("3", "0", "1")


def test_once_laid_out_it_is_read_from_its_files(tmp_path, monkeypatch):
    load = lambda: torchvision_set("FakeData", FAKE["arguments"], (None, None), tmp_path, False)  # noqa: E731
    first = load()
    monkeypatch.setattr(tv, "FakeData", type("FakeData", (), {}))
    again = load()
    assert again.classes == first.classes
    assert again.train.images == first.train.images
    assert not list(Path(tmp_path, "torchvision").glob(".*"))
    index = next(tmp_path.glob("torchvision/*/index.json"))
    index.write_text("{")
    with pytest.raises(ClbenchError, match="is damaged: remove the folder"):
        load()


class Letters(tv.VisionDataset):
    """As EMNIST: arrays, a class that nothing is of, and parts by ``train``."""

    classes = ["none", "a", "b"]

    def __init__(self, root, train=True, **more):
        super().__init__(root, **more)
        self.data = torch.arange(10 * 36, dtype=torch.uint8).reshape(10, 6, 6)
        self.targets = torch.tensor([1, 2] * 5)
        self.train = train

    def __len__(self):
        return 10

    def __getitem__(self, number):
        return Image.fromarray(self.data[number].numpy(), "L"), int(self.targets[number])


class Boxes(Letters):
    def __init__(self, root, split="train"):
        if split not in ("train", "val"):
            raise ValueError("no such split")
        super().__init__(root)
        self.targets = [{"box": 1}] * 10


class Split(Letters):
    def __init__(self, root, split="train"):
        if split not in ("train", "val"):
            raise ValueError(f"Unknown value {split}")
        super().__init__(root)
        self.split, self.data = split, None

    def __getitem__(self, number):
        shade = number + 100 * (self.split == "val")
        return Image.new("L", (6, 6), shade), int(self.targets[number])


@pytest.fixture
def library(monkeypatch):
    for kind in (Letters, Boxes, Split):
        monkeypatch.setattr(tv, kind.__name__, kind, raising=False)
    monkeypatch.setattr(tv, "__all__", (*tv.__all__, "Letters", "Boxes", "Split"))


def test_arrays_are_used_as_they_are(library, tmp_path):
    made = torchvision_set("Letters", {}, (None, None), tmp_path, False)
    assert made.classes == ("a", "b")
    assert made.train.images.shape == (10, 6, 6)
    assert made.train.labels.tolist() == [0, 1] * 5
    assert not (tmp_path / "torchvision").exists()


def test_parts_go_by_the_names_that_the_class_knows(library, tmp_path):
    made = torchvision_set("Split", {}, (None, None), tmp_path, False)
    assert len(made.train.images) == len(made.test.images) == 10
    shades = [int(np.asarray(Image.open(part.images[0]))[0, 0]) for part in (made.train, made.test)]
    assert shades == [0, 100]
    with pytest.raises(ClbenchError, match="torchvision refuses Split: Unknown value other"):
        torchvision_set("Split", {}, ("other", None), tmp_path, False)


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("Boxes", {}, "Boxes is no classification data set: its labels are like {'box': 1}"),
        ("GTSRBB", {}, r"torchvision has no data set 'GTSRBB' \(did you mean GTSRB\?\)"),
        ("GTSRB", {}, "GTSRB is missing, incomplete or damaged: .* must hold"),
        ("GTSRB", {"own": 1}, "torchvision refuses GTSRB: .*unexpected keyword argument 'own'"),
        ("GTSRB", {"download": True}, r"stream\.arguments\.download: clbench gives it itself"),
    ],
)
def test_what_cannot_be_a_stream_is_one_line(library, tmp_path, name, arguments, told):
    with pytest.raises(ClbenchError, match=told) as caught:
        torchvision_set(name, arguments, (None, None), tmp_path, False)
    assert "\n" not in str(caught.value)


SETTINGS = dict.fromkeys(("subset", "revision", "image", "label", "train_split", "test_split"))


def test_a_set_of_the_hub_needs_the_library_or_the_network(tmp_path, monkeypatch):
    with pytest.raises(ClbenchError, match=r"owner/name is missing: .*stream\.download true"):
        hub_sets.hub_set("owner/name", SETTINGS, tmp_path, False)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ClbenchError, match=re.escape("pip install 'clbench[huggingface]'")):
        hub_sets.hub_set("owner/name", SETTINGS, tmp_path, True)


def parquet(path, count, names=("cat", "dog"), texts=False):
    """Images in the hub's own form."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def one(number):
        made = io.BytesIO()
        Image.new("RGB", (9, 9), (number % 256, 0, 0)).save(made, "PNG")
        return {"bytes": made.getvalue(), "path": None}

    labels = [names[i % len(names)] if texts else i % len(names) for i in range(count)]
    label = {"dtype": "string", "_type": "Value"}
    if not texts:
        label = {"names": list(names), "_type": "ClassLabel"}
    number = {"dtype": "int64", "_type": "Value"}
    about = {"info": {"features": {"id": number, "img": {"_type": "Image"}, "label": label}}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "id": pa.array(list(range(count)), pa.int64()),
        "img": pa.array([one(i) for i in range(count)], image),
        "label": pa.array(labels),
    }
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, path)


@pytest.mark.filterwarnings("default")
def test_parquet_files(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="clbench[huggingface] is not installed")
    files, data_dir = tmp_path / "animals", tmp_path / "data"
    files.mkdir()
    parquet(files / "train-00000.parquet", 40)
    parquet(files / "test-00000.parquet", 20)
    stream = {"name": "huggingface", "dataset": str(files), "tasks": 2, "order_seed": 1}
    check_stream(stream, recipe={"images": {"size": 8}, "data_dir": str(data_dir)})
    made = recipe(stream, data_dir).build_stream()
    assert sorted(made.class_names) == ["cat", "dog"]
    assert [len(task.test) for task in made.tasks] == [10, 10]
    # Laid out once, it needs neither its files nor the library.
    monkeypatch.setattr(hub_sets, "_loaded", None)
    for path in files.iterdir():
        path.unlink()
    again = recipe(stream | {"download": False}, data_dir).build_stream()
    assert again.manifest_hash == made.manifest_hash


@pytest.mark.filterwarnings("default")
def test_one_parquet_file_with_labels_of_text(tmp_path, capsys):
    pytest.importorskip("datasets", reason="clbench[huggingface] is not installed")
    parquet(tmp_path / "animals.parquet", 20, ("b", "a"), texts=True)
    path = str(tmp_path / "animals.parquet")
    made = hub_sets.hub_set(path, SETTINGS, tmp_path / "data", False)
    assert made.classes == ("a", "b")
    assert (len(made.train.images), len(made.test.images)) == (16, 4)
    assert "every fifth image" in capsys.readouterr().out
    for change, told in (
        ({"image": "picture"}, "stream.image = 'picture': .* has id, img, label"),
        ({"test_split": "other"}, "has no split 'other': it has train"),
    ):
        with pytest.raises(ClbenchError, match=told):
            hub_sets.hub_set(path, SETTINGS | change, tmp_path / "data", False)
